"""Items as the messages of a conversation, and in the form in which they are kept and listed. Pure."""

from collections.abc import Callable, Iterable, Sequence

from vicuna_server.errors import RequestError
from vicuna_server.prompts import Message, ToolCall
from vicuna_server.protocol.quoting import quoted
from vicuna_server.protocol.responses.content import TextContent, text_of
from vicuna_server.protocol.responses.input_items import (
    FunctionCallItem,
    FunctionCallOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
)
from vicuna_server.protocol.responses.output_items import (
    FunctionCallOutput,
    InputMessage,
    function_call,
    output_message,
    output_text,
    reasoning_item,
)
from vicuna_server.protocol.responses.output_items import Item as KeptItem

__all__ = ["kept_item", "messages_of"]

NewId = Callable[[str], str]
"""Makes an id of a prefix: msg, fc, fco, rs."""


def messages_of(instructions: str | None, items: Sequence[Item]) -> tuple[Message, ...]:
    """Return the conversation that items are.

    What an assistant thought, said and called without a user's message or a result between is one message.

    Args:
        instructions: The system text of this request; it comes first.
        items: From the oldest to the newest, references resolved.

    Raises:
        RequestError: 400; a result without its call, or a call without its result at the end.
    """
    built = _Messages()
    if instructions:
        built.messages.append(Message("system", instructions))
    for item in items:
        built.add(item)
    return built.done()


class _Messages:
    """Messages so far, and the assistant's message that is being put together."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._reasoning: list[str] = []
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []
        self._names: dict[str, str] = {}

    def add(self, item: Item) -> None:
        if isinstance(item, ReasoningItem):
            self._reason(item)
        elif isinstance(item, FunctionCallItem):
            self._calls.append(ToolCall(item.call_id, item.name, item.arguments))
            self._names[item.call_id] = item.name
        elif isinstance(item, MessageItem) and item.role == "assistant":
            if self._calls:
                self._close()
            self._texts.append(text_of(item.content))
        else:
            self._close()
            self.messages.append(self._other(item))

    def _reason(self, item: ReasoningItem) -> None:
        if self._texts or self._calls:
            self._close()
        self._reasoning += _texts(item.content or item.summary or ())

    def done(self) -> tuple[Message, ...]:
        if self._calls:
            raise RequestError(
                f"input: it ends with the call {quoted(self._calls[-1].ident)}, whose result is missing; add a "
                "function_call_output with this call_id",
                param="input",
                code="invalid_value",
            )
        self._close()
        return tuple(self.messages)

    def _other(self, item: Item) -> Message:
        if isinstance(item, FunctionCallOutputItem):
            if item.call_id not in self._names:
                raise RequestError(
                    f"input: there is no function_call {quoted(item.call_id)} for this function_call_output; send the "
                    "call before its result, or previous_response_id of the response that made it",
                    param="input",
                    code="invalid_value",
                )
            return Message("tool", text_of(item.output), tool_call_id=item.call_id, name=self._names[item.call_id])
        assert isinstance(item, MessageItem)  # noqa: S101  # references are resolved before
        return Message("user" if item.role == "user" else "system", text_of(item.content))

    def _close(self) -> None:
        if self._texts or self._calls:
            reasoning = "\n".join(self._reasoning) or None
            text = "\n".join(self._texts)
            self.messages.append(Message("assistant", text, tool_calls=tuple(self._calls), reasoning=reasoning))
        self._reasoning, self._texts, self._calls = [], [], []


def kept_item(item: Item, new_id: NewId) -> KeptItem:
    """Return an item of a request as OpenAI lists it, with an id of its own."""
    if isinstance(item, FunctionCallItem):
        return function_call(new_id("fc"), "completed", item.call_id, item.name, item.arguments)
    if isinstance(item, FunctionCallOutputItem):
        result: FunctionCallOutput = {
            "id": new_id("fco"),
            "type": "function_call_output",
            "status": "completed",
            "call_id": item.call_id,
            "output": text_of(item.output),
        }
        return result
    if isinstance(item, ReasoningItem):
        texts = _texts(item.content or item.summary or ())
        return reasoning_item(new_id("rs"), "completed", [{"type": "reasoning_text", "text": text} for text in texts])
    assert isinstance(item, MessageItem)  # noqa: S101  # references are resolved before
    return _kept_message(item, new_id)


def _kept_message(item: MessageItem, new_id: NewId) -> KeptItem:
    texts = [item.content] if isinstance(item.content, str) else _texts(item.content)
    if item.role == "assistant":
        return output_message(new_id("msg"), "completed", [output_text(text, []) for text in texts])
    message: InputMessage = {
        "id": new_id("msg"),
        "type": "message",
        "status": "completed",
        "role": item.role,
        "content": [{"type": "input_text", "text": text} for text in texts],
    }
    return message


def _texts(parts: Iterable[TextContent]) -> list[str]:
    return [part.text for part in parts]
