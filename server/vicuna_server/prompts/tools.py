"""Functions that a model may call, and calls of them in a conversation."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Tool", "ToolCall"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the client offers.

    Attributes:
        name: What a call names.
        description: What it does, for the model.
        parameters: JSON Schema of its arguments, an object.
        strict: Whether the client asked that arguments keep to the schema; they do in any case where a call is
            constrained.
    """

    name: str
    description: str
    parameters: Mapping[str, object]
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function, as an assistant's message has it.

    Attributes:
        ident: The call's id, which the message with its result names.
        name: The function's name.
        arguments: JSON text of the arguments; of another model's call perhaps not valid.
    """

    ident: str
    name: str
    arguments: str
