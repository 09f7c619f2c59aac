"""`tools` and `tool_choice`. Functions are supported; tools that OpenAI runs itself are refused by name."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from vicuna_server.protocol.body import RequestPart
from vicuna_server.protocol.functions import (
    MAX_TOOLS,
    CallMode,
    FunctionDefinition,
    NamedFunction,
    OffersFunctions,
    check_kind,
)
from vicuna_server.protocol.quoting import quoted

__all__ = ["AllowedTools", "FunctionTool", "NamedTool", "ToolFields"]


def _functions_only(value: object) -> object:
    # Before the other fields, which tools of another type have not.
    check_kind(value.get("type") if isinstance(value, dict) else None)
    return value


class FunctionTool(FunctionDefinition):
    """A function."""

    type: Literal["function"]


class NamedTool(NamedFunction):
    """One function by its name."""

    type: Literal["function"]


class AllowedTools(RequestPart):
    """Those of the tools that may be called; `required`: one of them must be."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"] = "auto"
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True)]


def _known_choice(value: object) -> object:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind not in ("function", "allowed_tools"):
        raise ValueError(
            f"{quoted(kind, 40)} is not supported: this server runs no tools itself; use none, auto, required, "
            "{type: function, name} or {type: allowed_tools, mode, tools}"
        )
    return value


Tools = Annotated[
    list[Annotated[FunctionTool, BeforeValidator(_functions_only)]], Field(max_length=MAX_TOOLS, fail_fast=True)
]
ToolChoice = Annotated[Literal["none", "auto", "required"] | NamedTool | AllowedTools, BeforeValidator(_known_choice)]


class ToolFields(OffersFunctions):
    """What a request says about tools."""

    tools: Tools | None = None
    tool_choice: ToolChoice | None = None

    @property
    def offered(self) -> Sequence[FunctionDefinition]:
        """See `OffersFunctions.offered`."""
        return self.tools or []

    @property
    def wanted(self) -> list[str | None]:
        """See `OffersFunctions.wanted`."""
        if isinstance(self.tool_choice, NamedTool):
            return [self.tool_choice.name]
        if isinstance(self.tool_choice, AllowedTools):
            return [one.name for one in self.tool_choice.tools]
        return [None] if self.tool_choice == "required" else []

    @property
    def call_mode(self) -> CallMode:
        """See `OffersFunctions.call_mode`."""
        if isinstance(self.tool_choice, NamedTool):
            return "required"
        if isinstance(self.tool_choice, AllowedTools):
            return self.tool_choice.mode
        return self.tool_choice or "auto"

    @property
    def several_calls(self) -> bool:
        """See `OffersFunctions.several_calls`; the choice of one function is one call, as in a chat."""
        return super().several_calls and not isinstance(self.tool_choice, NamedTool)
