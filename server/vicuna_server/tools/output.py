"""Parts of an answer's text: text for the user, reasoning, calls of tools. Each route tells them in its own form."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CallArguments", "CallBegin", "CallEnd", "OutputPart", "ReasoningText", "Text", "joined"]


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


def joined(parts: Sequence[OutputPart]) -> list[OutputPart]:
    """Return the parts with neighbours of one kind, and of one call, as one."""
    result: list[OutputPart] = []
    for part in parts:
        last = result[-1] if result else None
        if isinstance(part, Text) and isinstance(last, Text):
            result[-1] = Text(last.text + part.text)
        elif isinstance(part, ReasoningText) and isinstance(last, ReasoningText):
            result[-1] = ReasoningText(last.text + part.text)
        elif isinstance(part, CallArguments) and isinstance(last, CallArguments) and part.index == last.index:
            result[-1] = CallArguments(part.index, last.text + part.text)
        else:
            result.append(part)
    return result
