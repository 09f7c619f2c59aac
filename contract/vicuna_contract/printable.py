"""Texts of others, safe to show: what a container prints must not steer the terminal of its reader."""

import re

__all__ = ["printable"]

_LINE_ENDS = re.compile(r"\r\n?")
# Whole sequences go, so that "\x1b[31mred" becomes "red": CSI, OSC with its text, and the two-letter ones (ECMA-48).
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-Z\\^-~]"
)
# Controls but tab and newline, marks that turn the direction of writing, and halves of characters, which have no UTF-8.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return a text without control characters and terminal sequences; tabs and line ends stay."""
    if text.isprintable():  # most are: no control, no mark, no half of a character
        return text
    return _CONTROLS.sub("", _SEQUENCES.sub("", _LINE_ENDS.sub("\n", text)))
