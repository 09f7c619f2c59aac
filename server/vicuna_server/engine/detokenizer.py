"""Token ids to text, one token at a time, without ever showing half a character."""

from collections.abc import Callable, Sequence

__all__ = ["Detokenizer"]

_REPLACEMENT = "\ufffd"
_MAX_HELD = 8
"""A character has at most four bytes, so at most four byte tokens: more held tokens are bytes that never will be."""


class Detokenizer:
    """Decodes a growing token sequence in constant work per token.

    A token's text depends on its neighbours (leading spaces, bytes of one character), so each step decodes a short
    window twice, with and without the new tokens, and the difference is the new text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._known = 0  # tokens at the head of the window whose text has been returned

    def push(self, token: int) -> str:
        """Take the next token and return the text it completes, possibly none."""
        self._window.append(token)
        before = self._decode(self._window[: self._known])
        after = self._decode(self._window)
        held = len(self._window) - self._known
        if after.endswith(_REPLACEMENT) and held < _MAX_HELD:
            return ""
        return self._advance(before, after)

    def flush(self) -> str:
        """Return the text of tokens still held back, at the end of the sequence; not what is half a character.

        An answer that was cut within a character ends before it, so that it can be continued.
        """
        if self._known == len(self._window):
            return ""
        text = self._advance(self._decode(self._window[: self._known]), self._decode(self._window))
        return text.rstrip(_REPLACEMENT)

    def _advance(self, before: str, after: str) -> str:
        # What was new becomes the context in which the next tokens are decoded.
        self._window = self._window[self._known :]
        self._known = len(self._window)
        return after[len(before) :]
