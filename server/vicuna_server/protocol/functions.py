"""Functions that a request offers, and which of them an answer may call: what the forms of both APIs have in common."""

import json
import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, field_validator, model_validator

from vicuna_server.protocol.body import RequestPart
from vicuna_server.protocol.quoting import quoted

__all__ = ["MAX_NAME", "MAX_TOOLS", "CallMode", "FunctionDefinition", "NamedFunction", "OffersFunctions", "check_kind"]

MAX_TOOLS = 128
"""OpenAI's own limit."""
MAX_DESCRIPTION = 16 * 2**10
MAX_PARAMETERS = 64 * 2**10
"""Letters of the JSON of one function's parameters."""
MAX_NAME = 256
"""Letters of a name that need not be one of the functions'."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

CallMode = Literal["none", "auto", "required"]


def _function_name(value: object) -> object:
    if isinstance(value, str) and _NAME.fullmatch(value) is None:
        raise ValueError(f"{quoted(value, 80)} is not a tool's name; use 1 to 64 letters, digits, _ and -")
    return value


def check_kind(kind: object) -> None:
    """Refuse tools that OpenAI runs itself, by the `type` of a tool.

    Raises:
        ValueError: It is another text than function.
    """
    if isinstance(kind, str) and kind != "function":
        raise ValueError(
            f"tools of type {quoted(kind, 40)} are not supported: this server runs no tools itself; offer a function, "
            "which your program runs"
        )


class FunctionDefinition(RequestPart):
    """A function that the model may call and the client runs; without `parameters` it has none."""

    name: Annotated[str, BeforeValidator(_function_name)]
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


class NamedFunction(RequestPart):
    """A function's name."""

    name: Annotated[str, Field(max_length=MAX_NAME)]


class OffersFunctions(BaseModel):
    """The part of a request that offers functions: their names differ, and the choice is among them."""

    parallel_tool_calls: bool | None = None

    @property
    @abstractmethod
    def offered(self) -> Sequence[FunctionDefinition]:
        """The functions."""

    @property
    @abstractmethod
    def wanted(self) -> list[str | None]:
        """Names of functions that the choice is about; None: one of all must be called. Empty: it asks for nothing."""

    @property
    @abstractmethod
    def call_mode(self) -> CallMode:
        """Whether an answer may, must or must not call a function."""

    @property
    def several_calls(self) -> bool:
        """Whether an answer may have more than one call."""
        return self.parallel_tool_calls is not False

    @property
    def _field(self) -> str:
        return "tools"

    @property
    def _choice_field(self) -> str:
        return "tool_choice"

    @model_validator(mode="after")
    def _functions_have_names_of_their_own(self) -> Self:
        names = [one.name for one in self.offered]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise ValueError(f"{self._field}: two of them are called {quoted(name)}; give each a name of its own")
        return self

    @model_validator(mode="after")
    def _choice_is_of_the_functions(self) -> Self:
        names = [one.name for one in self.offered]
        if not names and self.wanted:
            raise ValueError(f"{self._choice_field}: asks for a call, but there are no tools; send tools too")
        for wanted in self.wanted:
            if wanted is not None and wanted not in names:
                known = f"none of the {self._field}, which are {', '.join(names[:20])}"
                raise ValueError(f"{self._choice_field}: {quoted(wanted, 80)} is {known}")
        return self
