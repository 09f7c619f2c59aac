"""Parts of an answer's text: text for the user, reasoning, calls of tools. Each route tells them in its own form."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

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
    for _, group in groupby(parts, _kind):
        same = list(group)
        first, text = same[0], "".join(getattr(part, "text", "") for part in same)
        if isinstance(first, CallBegin | CallEnd):
            result += same
        else:
            result.append(replace(first, text=text))
    return result


def _kind(part: OutputPart) -> tuple[type, int]:
    return type(part), getattr(part, "index", 0)
