"""What an answer may do with the tools of its request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vicuna_server.errors import RequestError
from vicuna_server.prompts import Tool
from vicuna_server.protocol.quoting import quoted
from vicuna_server.protocol.responses.tools import AllowedTools, FunctionTool, NamedFunction

__all__ = ["ToolUse", "tool_use"]

_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What an answer may do with tools.

    Attributes:
        tools: All that the model is told of.
        callable: Names of those that it may call; none: it calls none.
        required: Whether it must call one.
        parallel: Whether it may call more than one.
    """

    tools: tuple[Tool, ...] = ()
    callable: tuple[str, ...] = ()
    required: bool = False
    parallel: bool = True


def tool_use(tools: Sequence[FunctionTool], choice: str | NamedFunction | AllowedTools, *, parallel: bool) -> ToolUse:
    """Return what a request says of tools.

    Raises:
        RequestError: 400; a name comes twice, or the choice is not among the tools.
    """
    names = [tool.name for tool in tools]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise _wrong(f"tools.{place}.name", f"two tools are called {quoted(name)}; give each another name")
    offered = tuple(_tool(tool) for tool in tools)
    if isinstance(choice, str):
        if choice == "required" and not names:
            raise _wrong("tool_choice", "a call is required, but there are no tools; add tools, or leave it out")
        return ToolUse(offered, () if choice == "none" else tuple(names), choice == "required", parallel)
    wanted = [choice.name] if isinstance(choice, NamedFunction) else [each.name for each in choice.tools]
    for name in wanted:
        if name not in names:
            raise _wrong("tool_choice", f"no tool is called {quoted(name)}; name one of tools")
    required = isinstance(choice, NamedFunction) or choice.mode == "required"
    return ToolUse(offered, tuple(dict.fromkeys(wanted)), required, parallel)


def _tool(tool: FunctionTool) -> Tool:
    return Tool(tool.name, tool.description or "", tool.parameters or _NO_ARGUMENTS, bool(tool.strict))


def _wrong(param: str, why: str) -> RequestError:
    return RequestError(f"{param}: {why}", param=param, code="invalid_value")
