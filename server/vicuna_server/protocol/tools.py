"""The fields of tools in a chat's request, and calls in its messages.

Source: OpenAI's API reference, "Chat completions": `tools`, `tool_choice`, `parallel_tool_calls`, and the older
`functions` and `function_call`.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from vicuna_server.protocol.body import RequestPart
from vicuna_server.protocol.functions import (
    MAX_NAME,
    MAX_TOOLS,
    CallMode,
    FunctionDefinition,
    NamedFunction,
    OffersFunctions,
    check_kind,
)
from vicuna_server.protocol.quoting import quoted

__all__ = [
    "AllowedToolsChoice",
    "FunctionCallPart",
    "NamedToolChoice",
    "ToolCallPart",
    "ToolDefinition",
    "ToolFields",
    "Tools",
]

_MODES = ("none", "auto", "required")


class ToolDefinition(RequestPart):
    """A tool; only functions are supported."""

    type: Literal["function"]
    function: FunctionDefinition

    @field_validator("type", mode="before")
    @classmethod
    def _only_functions(cls, value: object) -> object:
        check_kind(value)
        return value


Tools = Annotated[list[ToolDefinition], Field(max_length=MAX_TOOLS, fail_fast=True)]


class NamedToolChoice(RequestPart):
    """The answer must call this function."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(RequestPart):
    """The only tools that may, or must, be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedToolChoice], Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True)]


class AllowedToolsChoice(RequestPart):
    """All tools are described, and some may be called."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _known_choice(value: object) -> object:
    """Refuse other kinds of a choice by their name: a union's errors would tell those of each kind."""
    kind = value.get("type") if isinstance(value, dict) else value
    known = (*_MODES, None) if not isinstance(value, dict) else ("function", "allowed_tools")
    if (kind is None or isinstance(kind, str)) and kind not in known:
        raise ValueError(
            f"{quoted(kind, 40) if kind else 'an object without type'} is not supported; use none, auto, required, "
            "or an object of type function or allowed_tools"
        )
    return value


ToolChoiceField = Annotated[
    Literal["none", "auto", "required"] | NamedToolChoice | AllowedToolsChoice, BeforeValidator(_known_choice)
]


class FunctionCallPart(RequestPart):
    """A call in an assistant's message. Another model's arguments need not be valid JSON, and may be an object."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    arguments: str | dict[str, Any] | None = None

    def text(self) -> str:
        """Return the arguments as JSON text."""
        if isinstance(self.arguments, dict):
            return json.dumps(self.arguments, ensure_ascii=False)
        return self.arguments or "{}"


class ToolCallPart(RequestPart):
    """A call with its id."""

    id: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    type: Literal["function"] | None = None
    function: FunctionCallPart


class ToolFields(OffersFunctions):
    """What a chat's request says about tools."""

    tools: Tools | None = None
    tool_choice: ToolChoiceField | None = None
    functions: Annotated[list[FunctionDefinition], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = Field(
        default=None, description="the older form of tools"
    )
    function_call: Literal["none", "auto"] | NamedFunction | None = None

    @model_validator(mode="after")
    def _in_one_form(self) -> Self:
        if self.tools and self.functions:
            raise ValueError("functions: are the older form of tools; send one of the two")
        return self

    @property
    def offered(self) -> Sequence[FunctionDefinition]:
        """The functions, by either name of the field."""
        return [one.function for one in self.tools] if self.tools else self.functions or []

    @property
    def legacy(self) -> bool:
        """Whether calls are told in the older form."""
        return bool(self.functions)

    @property
    def wanted(self) -> list[str | None]:
        """See `OffersFunctions.wanted`."""
        choice = self.tool_choice
        if isinstance(self.function_call, NamedFunction) and not self.tools:
            return [self.function_call.name]
        if isinstance(choice, NamedToolChoice):
            return [choice.function.name]
        if isinstance(choice, AllowedToolsChoice):
            return [one.function.name for one in choice.allowed_tools.tools]
        return [None] if choice == "required" else []

    @property
    def call_mode(self) -> CallMode:
        """See `OffersFunctions.call_mode`."""
        choice = self.function_call if self.legacy else self.tool_choice
        if isinstance(choice, AllowedToolsChoice):
            return choice.allowed_tools.mode
        if isinstance(choice, NamedToolChoice | NamedFunction):
            return "required"
        return choice or "auto"

    @property
    def several_calls(self) -> bool:
        """See `OffersFunctions.several_calls`; the choice of one function is one call."""
        return super().several_calls and not self.legacy and not isinstance(self.tool_choice, NamedToolChoice)

    @property
    def _field(self) -> str:
        return "functions" if self.functions else "tools"

    @property
    def _choice_field(self) -> str:
        return "function_call" if not self.tools and self.function_call else "tool_choice"
