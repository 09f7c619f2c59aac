"""The parts of one choice in OpenAI's form: a whole message, or what each chunk adds to it."""

from collections.abc import Iterator

from vicuna_server.api.event_size import MAX_CHARACTERS
from vicuna_server.protocol.chat_completion import (
    ChatCompletionMessage,
    ChatDelta,
    FunctionCall,
    FunctionCallDelta,
    ToolCall,
    ToolCallDelta,
)
from vicuna_server.tools.output import CallArguments, CallBegin, CallEnd, OutputPart, ReasoningText, Text
from vicuna_server.tools.parsing import OutputParser

__all__ = ["ChatParts"]


class ChatParts:
    """Reads one choice's text.

    Args:
        parser: Of its parts; None: all is text.
        legacy: Whether a call is told as `function_call`.
        reasoning: Whether reasoning is told.
    """

    def __init__(self, parser: OutputParser | None, *, legacy: bool, reasoning: bool) -> None:
        self._parser = parser
        self._legacy = legacy
        self._reasoning = reasoning

    def deltas(self, text: str, *, last: bool) -> list[ChatDelta]:
        """Return what the next piece of text adds to the message.

        Args:
            text: The piece.
            last: Whether the choice ends with it.
        """
        if self._parser is None:
            return [{"content": text}] if text else []
        return [delta for part in self._parts(self._parser, text, last=last) for delta in self._deltas(part)]

    def message(self, text: str) -> ChatCompletionMessage:
        """Return the message of a complete choice."""
        if self._parser is None:
            return {"role": "assistant", "content": text, "refusal": None}
        parts = self._parts(self._parser, text, last=True)
        said = "".join(part.text for part in parts if isinstance(part, Text))
        thought = "".join(part.text for part in parts if isinstance(part, ReasoningText))
        calls = _calls(parts)
        message: ChatCompletionMessage = {"role": "assistant", "content": said, "refusal": None}
        if thought:
            message["reasoning"] = message["reasoning_content"] = thought
        if calls:
            message["content"] = said or None
            if self._legacy:
                message["function_call"] = calls[0]["function"]
            else:
                message["tool_calls"] = calls
        return message

    def finish_reason(self, reason: str) -> str:
        """Return why the choice ended; an end within a call is the engine's own reason."""
        if self._parser is None or reason != "stop" or self._parser.broken or not self._parser.calls:
            return reason
        return "function_call" if self._legacy else "tool_calls"

    def _parts(self, parser: OutputParser, text: str, *, last: bool) -> list[OutputPart]:
        parts = [*parser.push(text), *(parser.end() if last else ())]
        return parts if self._reasoning else [part for part in parts if not isinstance(part, ReasoningText)]

    def _deltas(self, part: OutputPart) -> Iterator[ChatDelta]:
        if isinstance(part, CallBegin):
            function: FunctionCallDelta = {"name": part.name, "arguments": ""}
            yield self._call({"index": part.index, "id": part.ident, "type": "function", "function": function})
        elif not isinstance(part, CallEnd):
            for start in range(0, len(part.text), MAX_CHARACTERS):
                text = part.text[start : start + MAX_CHARACTERS]
                if isinstance(part, CallArguments):
                    yield self._call({"index": part.index, "function": {"arguments": text}})
                elif isinstance(part, Text):
                    yield {"content": text}
                else:
                    yield {"reasoning": text, "reasoning_content": text}

    def _call(self, call: ToolCallDelta) -> ChatDelta:
        return {"function_call": call["function"]} if self._legacy else {"tool_calls": [call]}


def _calls(parts: list[OutputPart]) -> list[ToolCall]:
    calls: list[ToolCall] = []
    for part in parts:
        if isinstance(part, CallBegin):
            function: FunctionCall = {"name": part.name, "arguments": ""}
            calls.append({"id": part.ident, "type": "function", "function": function})
        elif isinstance(part, CallArguments):
            calls[part.index]["function"]["arguments"] += part.text
    return calls
