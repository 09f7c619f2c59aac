"""What a model thinks before it answers, where a server leaves the marks around it in the text. Pure."""

from collections.abc import Iterator
from typing import Literal

from vicuna_server.tools.marks import begun
from vicuna_server.tools.output import OutputPart, ReasoningText, Text
from vicuna_server.tools.parsing import THINK, THINK_END

__all__ = ["Thinking"]


class Thinking:
    """Takes the text of one answer in pieces of any size; a `<think>` counts only at its very beginning."""

    def __init__(self) -> None:
        self._held = ""
        self._state: Literal["start", "thinking", "after", "text"] = "start"

    def feed(self, piece: str) -> Iterator[OutputPart]:
        """Yield what the piece adds; what may become a mark is held back."""
        self._held += piece
        if self._state == "start":
            self._begin()
        if self._state == "thinking":
            yield from self._think()
        if self._state == "after":
            self._held = self._held.lstrip()
            self._state = "text" if self._held else "after"
        if self._state == "text":
            yield from self.end()

    def end(self) -> Iterator[OutputPart]:
        """Yield what is still held back."""
        held, self._held = self._held, ""
        if held:
            yield ReasoningText(held) if self._state == "thinking" else Text(held)

    def _begin(self) -> None:
        start = self._held.lstrip()
        if start.startswith(THINK):
            self._state, self._held = "thinking", start.removeprefix(THINK)
        elif not THINK.startswith(start):
            self._state = "text"

    def _think(self) -> Iterator[OutputPart]:
        thought, mark, after = self._held.partition(THINK_END)
        if mark:
            self._state, self._held = "after", after
        else:
            size = begun(thought, (THINK_END,))
            thought, self._held = thought[: len(thought) - size], thought[len(thought) - size :]
        if thought:
            yield ReasoningText(thought)
