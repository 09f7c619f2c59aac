"""Marks in a text that comes in pieces: what at its end may belong to one."""

from collections.abc import Sequence

__all__ = ["MOST_WHITE", "open_end", "white_before"]

MOST_WHITE = 64
"""Letters of white space that count as a mark's own."""


def open_end(text: str, marks: Sequence[str]) -> int:
    """Return how many letters at the end may belong to a mark: its beginning, and white space in front of it."""
    begun = max(
        (size for mark in marks for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])),
        default=0,
    )
    return begun + white_before(text, len(text) - begun)


def white_before(text: str, place: int) -> int:
    """Return how many letters of white space are directly before a place, up to `MOST_WHITE`."""
    head = text[max(0, place - MOST_WHITE) : place]
    return len(head) - len(head.rstrip())
