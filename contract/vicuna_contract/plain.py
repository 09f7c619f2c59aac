"""Text of anybody's, made harmless for a terminal: what containers, hubs and registries say is shown to people."""

import re

__all__ = ["plain"]

# All control characters but tab and newline, those that turn the direction of text, and halves of characters.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Return text in which nothing moves a cursor, renames a window or hides a part: such characters are spelt out."""
    if text.isascii() and text.isprintable():
        return text
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _HARMFUL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), lines)
