"""Reads `model`, `stream` and a few counts of a JSON body and leaves the rest as it is, in time linear in its length.

The members of the body's object are read one by one, strictly; a value that is a list or an object is passed over: of
each piece the strings are taken out and the brackets counted, by operations of bytes that run in C. Nothing is built,
and between two pieces others may have their turn. What is inside of those values is the model's server's to judge;
what could make a lenient parser see other members than this one does is refused: text that is no JSON outside of
strings, bytes that are no UTF-8, `model` or `stream` given twice, `model` in capitals (Go's parser takes it too).
"""

import codecs
import json
import re
from collections.abc import Generator
from dataclasses import dataclass
from itertools import accumulate

from vicuna_server.errors import RequestError

__all__ = ["PIECE", "Named", "scan"]

PIECE = 64 * 2**10
"""Bytes that are looked at in one go, at most: some milliseconds at worst."""

_ONCE = frozenset({"model", "stream"})
_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})
_CHOICES = frozenset({"n", "best_of"})
_UNSTATED = 4096
"""Tokens of an answer whose limit is not stated."""
_COUNT = re.compile(rb"[0-9]++(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?")
_COUNT_BYTES = 32

_MOST_MEMBERS = 256
_FIRST_PIECE = 512
_LAST_STEP = 64

_SPACE = re.compile(rb"[ \t\n\r]*+")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")
_NUMBER_OR_WORD = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?|true|false|null|NaN|-?Infinity")
_OUTSIDE = b" \t\n\r[]{}:,-+.0123456789eEtrufalsnNaIity"
"""What may stand outside of strings: structure, numbers, true, false, null, and Python's NaN and Infinity."""
_BRACKETS = bytes({ord("["): 1, ord("{"): 1, ord("]"): 255, ord("}"): 255}.get(code, 0) for code in range(256))
"""Brackets as steps up and down, to be read as signed bytes."""
_NO_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")


@dataclass(frozen=True, slots=True)
class Named:
    """What the gateway needs of a body.

    Attributes:
        model: the name given.
        start: where its JSON string begins, quote included, in bytes.
        end: where it ends.
        stream: whether `stream` is true.
        answer: the most tokens that a prompt may be answered with, all choices together, by what the body states.
    """

    model: str
    start: int
    end: int
    stream: bool
    answer: int


Turns = Generator[None, None, int]
"""Work that pauses between pieces and returns a position."""


def scan(body: bytes) -> Generator[None, None, Named]:
    """Return what a body names; yields after each piece, so that whoever drives it can let others go first.

    Raises:
        RequestError: 400 `invalid_json`, `invalid_value`.
    """
    yield from _utf8(body)
    position = _after_space(body, 0)
    if body[position : position + 1] != b"{":
        end = yield from _value(body, position)
        raise _not_json() if _after_space(body, end) < len(body) else _wrong("the body is no JSON object")
    found: dict[str, tuple[int, int]] = {}
    position = _after_space(body, position + 1)
    closed = body[position : position + 1] == b"}"
    for _ in range(_MOST_MEMBERS):
        if closed:
            break
        before, position = position, (yield from _member(body, position, found))
        if position - before > _FIRST_PIECE:
            yield
        closed = body[position : position + 1] == b"}"
        position = position if closed else _after_space(body, _after(body, position, b","))
    if not closed:
        raise _wrong(f"the body has more than {_MOST_MEMBERS} fields")
    if _after_space(body, position + 1) < len(body):
        raise _not_json()
    return _named(body, found)


def _member(body: bytes, position: int, found: dict[str, tuple[int, int]]) -> Turns:
    """Read a name and its value; return where the next comma or brace is."""
    end = yield from _string(body, position)
    name = _text(body, position, end)
    start = _after_space(body, _after(body, _after_space(body, end), b":"))
    end = yield from _value(body, start)
    if name.casefold() == "model" and name != "model":
        raise _wrong(f"write model in small letters, not {name}", "model")
    if name in _ONCE and name in found:
        raise _wrong(f"{name} is given twice", name)
    if name in _ONCE or name in _LIMITS or name in _CHOICES:
        found[name] = (start, end)
    return _after_space(body, end)


def _named(body: bytes, found: dict[str, tuple[int, int]]) -> Named:
    start, end = found.get("model", (0, 0))
    name = _text(body, start, end) if body[start:end].startswith(b'"') else ""
    if not name:
        raise _wrong("model: give the name of a model; GET /v1/models lists them", "model")
    streaming = found.get("stream", (0, 0))
    most = max((_count(body, *found[each]) for each in _LIMITS if each in found), default=0) or _UNSTATED
    choices = max((_count(body, *found[each]) for each in _CHOICES if each in found), default=0) or 1
    return Named(name, start, end, body[slice(*streaming)] == b"true", most * choices)


def _count(body: bytes, start: int, end: int) -> int:
    """Return a number as a count below 2^31; 0 for whatever else stands there."""
    if end - start > _COUNT_BYTES or not _COUNT.fullmatch(body, start, end):
        return 0
    return int(min(float(body[start:end]), 2**31 - 1))


def _value(body: bytes, position: int) -> Turns:
    first = body[position : position + 1]
    if first == b'"':
        return (yield from _string(body, position))
    if first in (b"[", b"{"):
        return (yield from _nested(body, position))
    word = _SCALAR.match(body, position)
    if word is None or not _NUMBER_OR_WORD.fullmatch(word[0]):
        raise _not_json()
    return word.end()


def _string(body: bytes, position: int) -> Turns:
    """Return where a string ends, its quote included."""
    if body[position : position + 1] != b'"':
        raise _not_json()
    position += 1
    while position < len(body):
        piece = _piece(body, position, PIECE)
        quote = _without_escapes(piece).find(b'"')
        if quote >= 0:
            return position + quote + 1
        position += len(piece)
        yield
    raise _not_json()


def _nested(body: bytes, position: int) -> Turns:
    """Return where a list or an object ends, its bracket included.

    Pieces grow as long as the end is in none of them, then shrink around it: linear in the value's length.
    """
    depth, inside, step, growing = 0, False, _FIRST_PIECE, True
    while position < len(body):
        piece = _piece(body, position, step)
        lowest, after, ends_inside = _depths(piece, inside, depth)
        if lowest > 0:
            depth, inside, position = after, ends_inside, position + len(piece)
            step = min(2 * step, PIECE) if growing else step
            if step == PIECE:
                yield
        elif len(piece) > _LAST_STEP:
            growing, step = False, len(piece) // 2
        else:
            return position + _end(piece, inside, depth)
    raise _not_json()


def _depths(piece: bytes, inside: bool, depth: int) -> tuple[int, int, bool]:
    """Count brackets outside of strings.

    Args:
        piece: of the body, no escape cut in two.
        inside: it begins inside of a string.
        depth: brackets open before it.

    Returns:
        The fewest that are open behind any bracket of the piece, how many are open behind it, and whether it ends
        inside of a string. The first is only sure to be above 0 if it is.
    """
    parts = _without_escapes(piece).split(b'"')
    outside = b"".join(parts[inside::2])
    if outside.translate(None, _OUTSIDE):
        raise _not_json()
    steps = outside.translate(_BRACKETS, _NO_BRACKETS)
    down = steps.count(255)
    after = depth + len(steps) - 2 * down
    ends_inside = inside ^ (len(parts) % 2 == 0)
    if down < depth or not steps:
        return max(depth - down, 1), after, ends_inside
    levels = accumulate(memoryview(steps).cast("b"), initial=depth)
    next(levels)
    return min(levels), after, ends_inside


def _end(piece: bytes, inside: bool, depth: int) -> int:
    """Return where, behind its bracket, the value ends in a piece that is known to hold its end."""
    for place, code in enumerate(_without_escapes(piece)):
        if code == ord('"'):
            inside = not inside
        elif not inside and code in b"[{":
            depth += 1
        elif not inside and code in b"]}":
            depth -= 1
            if depth == 0:
                return place + 1
    raise AssertionError  # its end was counted there


def _piece(body: bytes, position: int, size: int) -> bytes:
    """Return the next bytes of the body, so many or one more: an escape is not cut in two."""
    piece = body[position : position + size]
    if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
        piece = body[position : position + size + 1]
    return piece


def _without_escapes(piece: bytes) -> bytes:
    """Return the piece with x for escaped quotes and backslashes: as long as before, every quote left is a quote.

    Outside of strings a backslash is no JSON, and neither is an x.
    """
    return piece.replace(b"\\\\", b"xx").replace(b'\\"', b"xx") if b"\\" in piece else piece


def _utf8(body: bytes) -> Generator[None, None, None]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(body), PIECE):
            decoder.decode(body[start : start + PIECE])
            if start:
                yield
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise _not_json() from None


def _text(body: bytes, start: int, end: int) -> str:
    try:
        return str(json.loads(body[start:end]))
    except ValueError:
        raise _not_json() from None


def _after_space(body: bytes, position: int) -> int:
    space = _SPACE.match(body, position)
    assert space is not None  # noqa: S101  # matches nothing as well
    return space.end()


def _after(body: bytes, position: int, mark: bytes) -> int:
    if body[position : position + 1] != mark:
        raise _not_json()
    return position + 1


def _not_json() -> RequestError:
    return RequestError("the body is not valid JSON", code="invalid_json")


def _wrong(message: str, param: str | None = None) -> RequestError:
    return RequestError(message, param=param, code="invalid_value")
