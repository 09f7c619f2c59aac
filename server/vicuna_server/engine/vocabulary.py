"""Single tokens as bytes, for log probabilities: a token may be a part of a character."""

import re

from vicuna_server.prompts.tokenizer import Tokenizer

__all__ = ["Vocabulary"]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
"""How sentencepiece writes a byte that is in no other token."""


class Vocabulary:
    """The bytes of each token of a tokenizer.

    Args:
        tokenizer: Whose tokens they are.
        size: Ids below this exist, as the model sees it; embedding rows beyond the tokenizer's tokens have no text.
    """

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self.size = size
        self._tokenizer = tokenizer
        added = {token for token, one in tokenizer.added_tokens.items() if one.special}
        self.special = frozenset(token for token in added | tokenizer.special_ids if token < size)
        """Ids of the tokens that have no text."""
        self._byte_of = _byte_level_alphabet() if tokenizer.is_byte_level else None

    def token_bytes(self, token: int) -> bytes:
        """Return a token's bytes; none for special tokens and unused ids."""
        piece = None if token in self.special else self._tokenizer.token(token)
        if piece is None:
            return b""
        if self._byte_of is not None:
            # Added tokens are written as plain text, whose letters need not be in the alphabet.
            return b"".join(self._byte_of.get(letter) or letter.encode() for letter in piece)
        if match := _BYTE_TOKEN.fullmatch(piece):
            return bytes.fromhex(match[1])
        return piece.replace("\u2581", " ").encode()


def _byte_level_alphabet() -> dict[str, bytes]:
    """Return the letter that stands for each byte in byte-level vocabularies, inverted; GPT-2's definition."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): bytes([byte]) for byte in printable}
    return letters | {chr(256 + index): bytes([byte]) for index, byte in enumerate(others)}
