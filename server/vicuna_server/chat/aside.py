"""What is told beside an answer, on standard error: thoughts, and calls of tools, which are never run."""

import sys
import time
from collections.abc import Iterable, Iterator

from vicuna_server.chat.display import harmless
from vicuna_server.tools.output import CallArguments, CallBegin, OutputPart, ReasoningText, Text

__all__ = ["Aside"]

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Aside:
    """Tells what is beside the text of one answer.

    Args:
        thoughts: Whether thoughts are written out; else only that there are some, and how long they took.
    """

    def __init__(self, *, thoughts: bool) -> None:
        self._thoughts = thoughts
        self._since: float | None = None
        self._calls: dict[int, list[str]] = {}

    def text_of(self, parts: Iterable[OutputPart]) -> Iterator[str]:
        """Yield the text among the parts; thoughts are told at once, and calls are kept for `tell_calls`."""
        try:
            for part in parts:
                if not isinstance(part, ReasoningText):
                    self._end_thoughts()
                match part:
                    case Text(text):
                        yield text
                    case ReasoningText(text):
                        self._think(text)
                    case CallBegin(index, _, name):
                        self._calls[index] = [f"{name} "]
                    case CallArguments(index, text):
                        self._calls[index].append(text)
        finally:
            self._end_thoughts()

    def tell_calls(self) -> None:
        """Tell the calls, once the text is told."""
        for call in self._calls.values():
            _tell(f"[tool call, not run: {''.join(call).strip()}]\n")

    def _think(self, text: str) -> None:
        if self._since is None:
            self._since = time.monotonic()
            text = text.lstrip()
            if not self._thoughts and sys.stderr.isatty():
                _tell("[thinking]\n")
        if self._thoughts:
            _tell(text)

    def _end_thoughts(self) -> None:
        if self._since is not None:
            seconds = time.monotonic() - self._since
            _tell(f"\n[thought for {seconds:.1f} s]\n" if self._thoughts else f"[thought for {seconds:.1f} s]\n")
            self._since = None


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        text = f"{_DIM}{harmless(text)}{_PLAIN}"
    print(text, end="", file=sys.stderr, flush=True)
