"""What the text of an answer may be. Every engine keeps to it, or refuses it before the first token."""

from dataclasses import dataclass

__all__ = [
    "AnyJsonObject",
    "CallForm",
    "Choice",
    "Constraint",
    "Grammar",
    "JsonSchema",
    "Regex",
    "ToolCalls",
    "allows_any_text",
]


@dataclass(frozen=True, slots=True)
class AnyJsonObject:
    """Any JSON object: `response_format` of type `json_object`."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that is valid under a schema.

    Attributes:
        schema: JSON text of the schema.
        param: Field of the request that it stands in, for messages about it.
        whitespace: Whether blanks and newlines may stand between the parts of the JSON.
    """

    schema: str
    param: str = "response_format"
    whitespace: bool = True


@dataclass(frozen=True, slots=True)
class Regex:
    """Text that a regular expression matches as a whole."""

    pattern: str
    param: str = "structured_outputs"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several texts."""

    options: tuple[str, ...]
    param: str = "structured_outputs"


@dataclass(frozen=True, slots=True)
class Grammar:
    """Text of a context-free grammar, in the notations that vLLM takes (Lark, GBNF)."""

    text: str
    param: str = "structured_outputs"


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a call of one tool is written.

    Attributes:
        begin: Text in front of the arguments; it begins with the trigger.
        schema: JSON text of the schema of the arguments.
        end: Text behind the arguments.
        param: Field of the request that the schema stands in, for messages about it.
    """

    begin: str
    schema: str
    end: str
    param: str = "tools"


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Text in which calls of tools may come or must.

    Attributes:
        trigger: Text that announces a call. Behind it only a call of one of the forms may come.
        forms: One for each tool that may be called.
        required: Whether the answer is calls alone, one at least; otherwise text may come before, between and instead.
        parallel: Whether more than one call may come.
        between: Text between one call and the next.
        otherwise: What the text of an answer without a call must be (`response_format` beside `tools`); None: any.
    """

    trigger: str
    forms: tuple[CallForm, ...]
    required: bool = False
    parallel: bool = True
    between: str = ""
    otherwise: AnyJsonObject | JsonSchema | None = None


Constraint = AnyJsonObject | JsonSchema | Regex | Choice | Grammar | ToolCalls


def allows_any_text(constraint: Constraint | None) -> bool:
    """Whether an answer may be any text, if perhaps with calls in it; otherwise it is complete at certain places."""
    if isinstance(constraint, ToolCalls):
        return not constraint.required and constraint.otherwise is None
    return constraint is None
