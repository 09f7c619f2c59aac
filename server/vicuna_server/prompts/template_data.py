"""Messages and tools as chat templates in Jinja see them.

Source: transformers' documentation of tool use in chat templates: tools are JSON schemas of OpenAI's form, arguments
of calls are objects, reasoning is `reasoning_content` and, for older templates, `thinking`.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from vicuna_server.prompts.conversation import Message
from vicuna_server.prompts.tools import Tool, ToolCall

__all__ = ["mapped", "message_data", "tool_data"]

MOST_LEVELS = 100
"""Of arguments that are given as an object; deeper ones stay text."""


def message_data(message: Message, change: Callable[[str], str] = str) -> dict[str, Any]:
    """Return a message; what it does not have is left out.

    Args:
        message: As in the conversation.
        change: Applied to each text that is not ours.
    """
    data: dict[str, Any] = {"role": message.role, "content": change(message.content)}
    if message.tool_calls:
        data["tool_calls"] = [_call_data(call, change) for call in message.tool_calls]
    texts = {"tool_call_id": message.tool_call_id, "name": message.name, "reasoning_content": message.reasoning}
    data |= {name: change(text) for name, text in texts.items() if text is not None}
    if "reasoning_content" in data:
        data["thinking"] = data["reasoning_content"]
    return data


def tool_data(tool: Tool, change: Callable[[str], str] = str) -> dict[str, Any]:
    """Return a tool in OpenAI's form; without a description it has none."""
    description = {"description": change(tool.description)} if tool.description else {}
    function = {"name": change(tool.name), **description, "parameters": mapped(dict(tool.parameters), change)}
    return {"type": "function", "function": function}


def _call_data(call: ToolCall, change: Callable[[str], str]) -> dict[str, Any]:
    function = {"name": change(call.name), "arguments": mapped(_arguments(call.arguments), change)}
    return {"id": change(call.ident), "type": "function", "function": function}


def _arguments(text: str) -> object:
    """Return the object; text that is none stays as another model wrote it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) and _is_flat(value) else text


def _is_flat(value: object) -> bool:
    """Whether JSON data is nested no deeper than `MOST_LEVELS`."""
    level = [value]
    for _ in range(MOST_LEVELS):
        if not level:
            return True
        level = [child for one in level for child in _children(one)]
    return False


def _children(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def mapped(data: Any, change: Callable[[str], str]) -> Any:
    """Return JSON data with each string changed, names of fields included."""
    if isinstance(data, str):
        return change(data)
    if isinstance(data, dict):
        return {change(name): mapped(value, change) for name, value in data.items()}
    if isinstance(data, list):
        return [mapped(value, change) for value in data]
    return data
