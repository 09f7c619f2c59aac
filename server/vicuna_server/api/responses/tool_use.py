"""What an answer may do with the tools of its request."""

from collections.abc import Sequence
from typing import Any, Literal

from vicuna_server.errors import RequestError
from vicuna_server.prompts import Tool
from vicuna_server.protocol.quoting import quoted
from vicuna_server.protocol.responses.tools import AllowedTools, FunctionTool, NamedFunction
from vicuna_server.tools.planning import ToolChoice

__all__ = ["tool_use"]

Mode = Literal["none", "auto", "required"]
_MODES: dict[str, Mode] = {"none": "none", "required": "required"}
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


def tool_use(
    tools: Sequence[FunctionTool], choice: str | NamedFunction | AllowedTools, *, parallel: bool
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """Return the tools that the model is told of, and which of them it may or must call.

    Raises:
        RequestError: 400; a name comes twice, or the choice is not among the tools.
    """
    names = [tool.name for tool in tools]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise _wrong(f"tools.{place}.name", f"two tools are called {quoted(name)}; give each another name")
    mode, wanted = _chosen(choice)
    if choice == "required" and not names:
        raise _wrong("tool_choice", "a call is required, but there are no tools; add tools, or leave it out")
    for name in wanted or ():
        if name not in names:
            raise _wrong("tool_choice", f"no tool is called {quoted(name)}; name one of tools")
    return tuple(_tool(tool) for tool in tools), ToolChoice(mode, wanted, parallel)


def _chosen(choice: str | NamedFunction | AllowedTools) -> tuple[Mode, tuple[str, ...] | None]:
    """Return whether an answer may or must call tools, and the only ones that it may call; None: all."""
    if isinstance(choice, NamedFunction):
        return "required", (choice.name,)
    if isinstance(choice, AllowedTools):
        names = tuple(dict.fromkeys(each.name for each in choice.tools))
        return "required" if choice.mode == "required" else "auto", names
    return _MODES.get(choice, "auto"), None


def _tool(tool: FunctionTool) -> Tool:
    return Tool(tool.name, tool.description or "", tool.parameters or _NO_ARGUMENTS, bool(tool.strict))


def _wrong(param: str, why: str) -> RequestError:
    return RequestError(f"{param}: {why}", param=param, code="invalid_value")
