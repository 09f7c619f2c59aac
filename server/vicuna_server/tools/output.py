"""Parts of an answer's text: text for the user, reasoning, calls of tools. Each route tells them in its own form."""

from dataclasses import dataclass

__all__ = ["CallArguments", "CallBegin", "CallEnd", "OutputPart", "ReasoningText", "Text"]


@dataclass(frozen=True, slots=True)
class Text:
    """More text for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningText:
    """More of what the model thinks before it answers, without the marks around it."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegin:
    """A call begins: its tool is known.

    Attributes:
        index: Place among the answer's calls, from 0.
        ident: Its id, unique.
        name: The tool's name.
    """

    index: int
    ident: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the JSON text of a call's arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """A call is complete."""

    index: int


OutputPart = Text | ReasoningText | CallBegin | CallArguments | CallEnd
