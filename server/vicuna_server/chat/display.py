"""Shows an answer while it comes: as plain text, or as Markdown on a terminal."""

import re
import sys
from collections.abc import Iterable, Iterator

__all__ = ["show"]

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All control characters but tab and newline: with them, a text could move the cursor or rename the window."""


def show(pieces: Iterable[str], style: str) -> None:
    """Print the pieces as they come, and end the line.

    Args:
        pieces: The answer's text.
        style: "simple", or "rich" for rendered Markdown where the output is a terminal.
    """
    terminal = sys.stdout.isatty()
    if terminal:
        pieces = _harmless(pieces)
    if style == "rich" and terminal:
        _show_rich(pieces)
        return
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
    finally:
        print(flush=True)


def _harmless(pieces: Iterable[str]) -> Iterator[str]:
    for piece in pieces:
        yield _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", piece)


def _show_rich(pieces: Iterable[str]) -> None:
    from rich.live import Live
    from rich.markdown import Markdown

    text = ""
    with Live(Markdown(text), refresh_per_second=8, vertical_overflow="visible") as live:
        for piece in pieces:
            text += piece
            live.update(Markdown(text))
