"""The scripted engine's answers under a constraint: one text that a grammar allows, always the same.

It is written letter by letter: what closes a string, an array or an object comes first, then the letter that was used
least, so that every repetition ends. With tools, the one whose name the user's last message has is called; where none
is named and none must be, the answer is text.
"""

from collections import Counter
from functools import partial

from vicuna_server.constraints import Constraint, ToolCalls
from vicuna_server.engine.grammar.matching import BYTES, byte_tokenizer, make_matcher
from vicuna_server.engine.grammar.process import grammar_of
from vicuna_server.engine.scripted.words import ScriptedFormat

__all__ = ["sample", "scripted_format"]

MOST_BYTES = 8192
_PIECE = 4
_QUOTE, _BACKSLASH = b'"\\'
_BETWEEN, _IN_STRING = b"}],", b'"'
_LATER, _LAST = b"-+.", b"\\ "


def scripted_format(constraint: Constraint, text: str) -> ScriptedFormat:
    """Return the answers of a constraint that has been checked, whose grammar is `text`."""
    if not isinstance(constraint, ToolCalls):
        return ScriptedFormat(sample(text))
    calls = tuple(
        (form.begin, _sample_of(ToolCalls(constraint.trigger, (form,), required=True, parallel=False)))
        for form in constraint.forms
    )
    if constraint.required:
        return ScriptedFormat(calls[0][1], calls)
    return ScriptedFormat(None if constraint.otherwise is None else _sample_of(constraint.otherwise), calls)


def sample(text: str) -> tuple[str, ...]:
    """Return a short text that a grammar allows, in pieces.

    Raises:
        ValueError: None was found.
    """
    matcher = make_matcher(byte_tokenizer(), text)
    used: Counter[int] = Counter()
    written = bytearray()
    string = _String()
    while not matcher.is_accepting():
        mask = matcher.compute_bitmask()
        allowed = [byte for byte in range(BYTES) if mask[byte // 8] >> byte % 8 & 1]
        if not allowed or len(written) >= MOST_BYTES:
            raise ValueError(f"the scripted engine finds no text of {MOST_BYTES} bytes that it allows")
        byte = min(allowed, key=partial(_order, used, _IN_STRING if string.open else _BETWEEN))
        string.read(byte)
        used[byte] += 1
        written.append(byte)
        matcher.consume_token(byte)
    letters = written.decode()
    return tuple(letters[start : start + _PIECE] for start in range(0, len(letters), _PIECE))


class _String:
    """Whether JSON text so far is within a string."""

    def __init__(self) -> None:
        self.open = False
        self._escaped = False

    def read(self, byte: int) -> None:
        self.open ^= byte == _QUOTE and not self._escaped
        self._escaped = self.open and byte == _BACKSLASH and not self._escaped


def _order(used: Counter[int], closing: bytes, byte: int) -> tuple[int, int, int]:
    """Return where a byte stands among those that may come: what closes first, then what was used least."""
    if byte in closing:
        return 0, closing.index(byte), byte
    return 2 if byte in _LAST or not 0x20 <= byte < 0x7F else 1, used[byte] + (byte in _LATER), byte


def _sample_of(constraint: Constraint) -> tuple[str, ...]:
    return sample(grammar_of(constraint)["text"])
