"""What reads the text of an answer, and what reads one that is text alone."""

from typing import Protocol

from vicuna_server.tools.output import OutputPart, Text

__all__ = ["Parser", "PlainText"]


class Parser(Protocol):
    """Reads the parts of one answer from its text."""

    def push(self, text: str) -> list[OutputPart]:
        """Take more text, and return the parts that are certain by now."""

    def end(self) -> list[OutputPart]:
        """Return what is left at the end of the answer."""


class PlainText:
    """Takes all text as text for the user."""

    def push(self, text: str) -> list[OutputPart]:
        """Return the text."""
        return [Text(text)] if text else []

    def end(self) -> list[OutputPart]:
        """Return nothing: all text was told at once."""
        return []
