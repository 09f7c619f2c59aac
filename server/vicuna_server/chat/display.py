"""Shows an answer while it arrives: as plain text, or as Markdown on a terminal."""

import re
import sys
from collections.abc import Iterable, Iterator

__all__ = ["show", "split_blocks"]

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All control characters but tab and newline: with them, a text could move the cursor or change the window's title."""

_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)


def show(pieces: Iterable[str], style: str) -> None:
    """Print the parts as they arrive, and end the line.

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
    """Render the unfinished block again with each part, and each finished block once.

    So the work does not grow with the answer, and nothing taller than the screen is drawn again.
    """
    from rich.live import Live
    from rich.markdown import Markdown

    rest = ""
    with Live(Markdown(rest), refresh_per_second=8, vertical_overflow="visible") as live:
        for piece in pieces:
            finished, rest = split_blocks(rest + piece)
            if finished:
                live.console.print(Markdown(finished))
                live.console.print()
            live.update(Markdown(rest))


def split_blocks(text: str) -> tuple[str, str]:
    """Return the text up to the last blank line outside of a code block, and the rest."""
    cut = text.rfind("\n\n")
    while cut >= 0:
        if len(_FENCE.findall(text, 0, cut + 1)) % 2 == 0:
            return text[: cut + 2], text[cut + 2 :]
        cut = text.rfind("\n\n", 0, cut)
    return "", text
