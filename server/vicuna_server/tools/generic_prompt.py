"""Tools, calls and results as plain text, for models whose template knows none.

The text is the same for the same request, and documented in docs/serving.md: other engines can be given it too.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from vicuna_server.prompts import Message, Tool, ToolCall
from vicuna_server.prompts.template_data import tool_data

__all__ = ["as_text", "described"]

_HEAD = """# Tools

You can call functions to answer the user. These are the functions, each as a JSON object on a line:
"""
_FOOT = """

To call a function, write its name and its arguments like this, on a line of its own:
<tool_call>{"name": "NAME", "arguments": {"ARGUMENT": VALUE}}</tool_call>
The result then comes in <tool_response></tool_response>. Where no function helps, answer in plain text."""


def as_text(
    messages: Sequence[Message], tools: Sequence[Tool], system: str | None, *, takes_system: bool = True
) -> tuple[Message, ...]:
    """Return a conversation without tools, whose texts have what the given one says with them.

    Args:
        messages: With the names of tools in their results.
        tools: That may be called.
        system: The template's own system text, which stays in front; None: it is not known.
        takes_system: Whether the template takes a system message. Otherwise the user's first message has the text.
    """
    plain = [_plain(message) for message in messages]
    if not tools:
        return tuple(plain)
    if not takes_system:
        return _before_the_user(plain, described(tools))
    if system and not any(message.role == "system" for message in plain):
        plain.insert(0, Message("system", system))
    head = next((place for place, one in enumerate(plain) if one.role != "system"), len(plain))
    return (*plain[:head], Message("system", described(tools)), *plain[head:])


def _before_the_user(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    first = next((place for place, one in enumerate(messages) if one.role == "user"), None)
    if first is None:
        return (Message("user", text), *messages)
    asked = replace(messages[first], content=f"{text}\n\n{messages[first].content}")
    return (*messages[:first], asked, *messages[first + 1 :])


def described(tools: Sequence[Tool]) -> str:
    """Return the text that explains tools and how to call them."""
    lines = [json.dumps(tool_data(tool)["function"], ensure_ascii=False) for tool in tools]
    return _HEAD + "\n".join(lines) + _FOOT


def _plain(message: Message) -> Message:
    if message.role == "tool":
        content = json.dumps({"name": message.name, "content": message.content}, ensure_ascii=False)
        return Message("user", f"<tool_response>{content}</tool_response>")
    if not message.tool_calls:
        return message
    texts = [message.content] if message.content else []
    return Message("assistant", "\n".join([*texts, *map(_written, message.tool_calls)]), reasoning=message.reasoning)


def _written(call: ToolCall) -> str:
    try:
        json.loads(call.arguments)
        arguments = call.arguments
    except (ValueError, RecursionError):
        arguments = json.dumps(call.arguments, ensure_ascii=False)
    return f'<tool_call>{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {arguments}}}</tool_call>'
