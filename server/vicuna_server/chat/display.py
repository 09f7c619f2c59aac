"""Shows an answer while it arrives: as plain text, or as Markdown on a terminal."""

import re
import sys
from collections.abc import Iterable

__all__ = ["harmless", "show", "split_blocks"]

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All control characters but tab and newline: with them, a text could move the cursor or change the window's title."""

_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)


def show(parts: Iterable[str], style: str) -> None:
    """Print the parts as they arrive, and end the line.

    Args:
        parts: The answer's text.
        style: "simple", or "rich" for rendered Markdown where the output is a terminal.
    """
    terminal = sys.stdout.isatty()
    if terminal:
        parts = map(harmless, parts)
    if style == "rich" and terminal:
        _show_rich(parts)
        return
    try:
        for part in parts:
            print(part, end="", flush=True)
    finally:
        print(flush=True)


def harmless(text: str) -> str:
    """Return a text that moves no cursor: each control character but tab and newline becomes a visible one."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def _show_rich(parts: Iterable[str]) -> None:
    """Render the unfinished block again with each part, and each finished block once.

    So the work does not grow with the answer, and nothing taller than the screen is drawn again.
    """
    from rich.live import Live
    from rich.markdown import Markdown

    rest = ""
    # What is told meanwhile on standard error stays above, where that is the same terminal.
    redirect = sys.stderr.isatty()
    with Live(Markdown(rest), refresh_per_second=8, vertical_overflow="visible", redirect_stderr=redirect) as live:
        for part in parts:
            finished, rest = split_blocks(rest + part)
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
