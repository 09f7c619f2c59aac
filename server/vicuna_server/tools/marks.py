"""Marks in a text that comes in pieces: what at its end may belong to one."""

from collections.abc import Sequence

__all__ = ["MOST_WHITE", "begun", "open_end", "white_before"]

MOST_WHITE = 64
"""Letters of white space that count as a mark's own."""


def begun(text: str, marks: Sequence[str]) -> int:
    """Return how many letters at the end begin a mark without being all of it; of several marks the most."""
    return max(
        (size for mark in marks for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])),
        default=0,
    )


def open_end(text: str, marks: Sequence[str]) -> int:
    """Return how many letters at the end may belong to a mark: its beginning, and white space in front of it."""
    size = begun(text, marks)
    return size + white_before(text, len(text) - size)


def white_before(text: str, place: int) -> int:
    """Return how many letters of white space are directly before a place, up to `MOST_WHITE`."""
    head = text[max(0, place - MOST_WHITE) : place]
    return len(head) - len(head.rstrip())
