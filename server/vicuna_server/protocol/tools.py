"""The fields of tools in a chat's request, and calls in its messages.

Source: OpenAI's API reference, "Chat completions": `tools`, `tool_choice`, `parallel_tool_calls`, and the older
`functions` and `function_call`.
"""

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, field_validator, model_validator

from vicuna_server.protocol.body import RequestPart
from vicuna_server.protocol.quoting import quoted

__all__ = [
    "AllowedToolsChoice",
    "FunctionCallPart",
    "FunctionDefinition",
    "NamedFunction",
    "NamedToolChoice",
    "ToolCallPart",
    "ToolDefinition",
    "ToolFields",
    "Tools",
]

MAX_TOOLS = 128
"""OpenAI's own limit."""
MAX_DESCRIPTION = 16 * 2**10
MAX_PARAMETERS = 64 * 2**10
"""Letters of the JSON of one tool's parameters."""
MAX_NAME = 256
"""Letters of a name or id in a history, which another server may have made."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MODES = ("none", "auto", "required")


def _tool_name(value: object) -> object:
    if isinstance(value, str) and _NAME.fullmatch(value) is None:
        raise ValueError(f"{quoted(value, 80)} is not a tool's name; use 1 to 64 letters, digits, _ and -")
    return value


ToolName = Annotated[str, BeforeValidator(_tool_name)]


class FunctionDefinition(RequestPart):
    """A function that the model may call; without `parameters` it has none."""

    name: ToolName
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION)] | None = None
    parameters: dict[str, Any] | None = Field(default=None, description="JSON Schema of an object")
    strict: bool | None = None

    @field_validator("parameters")
    @classmethod
    def _describe_an_object(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is None:
            return None
        if value.get("type", "object") != "object":
            raise ValueError("the schema's type must be object, since arguments have names; put it into a property")
        if (size := len(json.dumps(value, ensure_ascii=False))) > MAX_PARAMETERS:
            raise ValueError(f"the schema has {size} letters of JSON, and at most {MAX_PARAMETERS} are taken")
        return value


class ToolDefinition(RequestPart):
    """A tool; only functions are supported."""

    type: Literal["function"]
    function: FunctionDefinition

    @field_validator("type", mode="before")
    @classmethod
    def _only_functions(cls, value: object) -> object:
        if isinstance(value, str) and value != "function":
            raise ValueError(f"tools of type {quoted(value, 40)} are not supported by this server; send functions")
        return value


Tools = Annotated[list[ToolDefinition], Field(max_length=MAX_TOOLS, fail_fast=True)]


class NamedFunction(RequestPart):
    """A function's name."""

    name: Annotated[str, Field(max_length=MAX_NAME)]


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


class ToolFields(BaseModel):
    """What a chat's request says about tools."""

    tools: Tools | None = None
    tool_choice: ToolChoiceField | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[FunctionDefinition], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = Field(
        default=None, description="the older form of tools"
    )
    function_call: Literal["none", "auto"] | NamedFunction | None = None

    @model_validator(mode="after")
    def _tools_have_names_of_their_own(self) -> Self:
        if self.tools and self.functions:
            raise ValueError("functions: are the older form of tools; send one of the two")
        names = [one.name for one in self.offered]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise ValueError(f"{self._field}: two of them are called {quoted(name)}; give each a name of its own")
        return self

    @model_validator(mode="after")
    def _choice_is_of_the_tools(self) -> Self:
        choice = "function_call" if not self.tools and self.function_call else "tool_choice"
        names = [one.name for one in self.offered]
        if not names and self.wanted:
            raise ValueError(f"{choice}: asks for a call, but there are no tools; send tools too")
        for wanted in self.wanted:
            if wanted is not None and wanted not in names:
                known = f"none of the {self._field}, which are {', '.join(names[:20])}"
                raise ValueError(f"{choice}: {quoted(wanted, 80)} is {known}")
        return self

    @property
    def offered(self) -> list[FunctionDefinition]:
        """The functions, by either name of the field."""
        return [one.function for one in self.tools] if self.tools else self.functions or []

    @property
    def legacy(self) -> bool:
        """Whether calls are told in the older form."""
        return bool(self.functions)

    @property
    def wanted(self) -> list[str | None]:
        """Names of the tools that the choice is about; None: one of all must be called. Empty: it asks for nothing."""
        choice = self.tool_choice
        if isinstance(self.function_call, NamedFunction) and not self.tools:
            return [self.function_call.name]
        if isinstance(choice, NamedToolChoice):
            return [choice.function.name]
        if isinstance(choice, AllowedToolsChoice):
            return [one.function.name for one in choice.allowed_tools.tools]
        return [None] if choice == "required" else []

    @property
    def call_mode(self) -> Literal["none", "auto", "required"]:
        """Whether an answer may, must or must not call a tool."""
        choice = self.function_call if self.legacy else self.tool_choice
        if isinstance(choice, AllowedToolsChoice):
            return choice.allowed_tools.mode
        if isinstance(choice, NamedToolChoice | NamedFunction):
            return "required"
        return choice or "auto"

    @property
    def several_calls(self) -> bool:
        """Whether an answer may have more than one call."""
        named = isinstance(self.tool_choice, NamedToolChoice)
        return self.parallel_tool_calls is not False and not self.legacy and not named

    @property
    def _field(self) -> str:
        return "functions" if self.functions else "tools"
