"""`tools` and `tool_choice`. Functions are supported; tools that OpenAI runs itself are refused by name."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from vicuna_server.protocol.body import RequestPart

__all__ = ["AllowedTools", "FunctionTool", "NamedFunction", "ToolChoice", "Tools"]

MAX_TOOLS = 128
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


def _functions_only(value: object) -> object:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind != "function":
        raise ValueError(
            f"the tool {kind[:40]!r} is not supported: this server runs no tools itself; offer it as a function, which "
            "your program runs"
        )
    return value


class FunctionTool(RequestPart):
    """A function that the model may call and the client runs."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedFunction(RequestPart):
    """One function by its name."""

    type: Literal["function"]
    name: FunctionName


class AllowedTools(RequestPart):
    """Those of the tools that may be called; `required`: one of them must be."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"] = "auto"
    tools: list[NamedFunction] = Field(min_length=1, max_length=MAX_TOOLS)


def _known_choice(value: object) -> object:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind not in ("function", "allowed_tools"):
        raise ValueError(
            f"{kind[:40]!r} is not supported: this server runs no tools itself; use none, auto, required, "
            "{type: function, name} or {type: allowed_tools, mode, tools}"
        )
    return value


Tools = Annotated[
    list[Annotated[FunctionTool, BeforeValidator(_functions_only)]], Field(max_length=MAX_TOOLS, fail_fast=True)
]
ToolChoice = Annotated[
    Literal["none", "auto", "required"] | NamedFunction | AllowedTools, BeforeValidator(_known_choice)
]
