"""A chat's messages, and any request's tools, in the form that the engine takes."""

from collections.abc import Iterable, Mapping, Sequence

from vicuna_server.engine import ChatPrompt
from vicuna_server.prompts import Message, Role, Tool, ToolCall
from vicuna_server.protocol.chat import ChatMessage
from vicuna_server.protocol.functions import FunctionDefinition, OffersFunctions
from vicuna_server.tools.planning import ToolChoice

__all__ = ["choice_of", "conversation", "tools_of"]

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def conversation(
    messages: Iterable[ChatMessage], tools: Sequence[Tool] = (), variables: Mapping[str, object] | None = None
) -> ChatPrompt:
    """Return a prompt of a conversation.

    Args:
        messages: As the client sent them.
        tools: Functions that are described.
        variables: For the chat template.
    """
    return ChatPrompt(tuple(map(_message, messages)), tuple(tools), dict(variables or {}))


def tools_of(functions: Iterable[FunctionDefinition]) -> tuple[Tool, ...]:
    """Return the tools of a request."""
    return tuple(
        Tool(
            one.name,
            one.description or "",
            one.parameters or {"type": "object", "properties": {}},
            bool(one.strict),
        )
        for one in functions
    )


def choice_of(body: OffersFunctions) -> ToolChoice:
    """Return which tools an answer may or must call."""
    names = tuple(name for name in body.wanted if name is not None)
    return ToolChoice(body.call_mode, names or None, body.several_calls)


def _message(message: ChatMessage) -> Message:
    if message.role not in ("assistant", "tool", "function"):
        return Message(_ROLES[message.role], message.text())
    calls = tuple(ToolCall(one.id or "", one.function.name, one.function.text()) for one in message.calls)
    if message.role == "assistant":
        reasoning = message.reasoning if message.reasoning is not None else message.reasoning_content
        return Message("assistant", message.text(), calls, reasoning=reasoning)
    return Message("tool", message.text(), tool_call_id=message.tool_call_id, name=message.name)
