"""Skips the values of a JSON text, without parsing them, in time linear in their length.

Of each piece of a list or an object, the strings are removed and the brackets counted, by operations on bytes that run
in C. Nothing is built, and other requests can run between two pieces.
"""

import re
from collections.abc import Generator
from itertools import accumulate

from vicuna_server.errors import RequestError

__all__ = ["FIRST_PIECE", "PIECE", "Steps", "after", "after_space", "not_json", "string", "value"]

PIECE = 64 * 2**10
"""Bytes that are read without a pause, at most: a few milliseconds in the worst case."""

FIRST_PIECE = 512
_LAST_STEP = 64

_SPACE = re.compile(rb"[ \t\n\r]*+")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")
_NUMBER_OR_WORD = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?|true|false|null|NaN|-?Infinity")
_OUTSIDE = b" \t\n\r[]{}:,-+.0123456789eEtrufalsnNaIity"
"""Bytes that may be outside of strings: structure, numbers, true, false, null, and Python's NaN and Infinity."""
_BRACKETS = bytes({ord("["): 1, ord("{"): 1, ord("]"): 255, ord("}"): 255}.get(code, 0) for code in range(256))
"""Brackets as steps up and down, as signed bytes."""
_NO_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")

Steps = Generator[None, None, int]
"""A generator that pauses between pieces and returns a position."""


def value(body: bytes, position: int) -> Steps:
    """Return where a value ends.

    Raises:
        RequestError: 400 `invalid_json`.
    """
    first = body[position : position + 1]
    if first == b'"':
        return (yield from string(body, position))
    if first in (b"[", b"{"):
        return (yield from _nested(body, position))
    word = _SCALAR.match(body, position)
    if word is None or not _NUMBER_OR_WORD.fullmatch(word[0]):
        raise not_json()
    return word.end()


def string(body: bytes, position: int) -> Steps:
    """Return the position after a string, its quote included."""
    if body[position : position + 1] != b'"':
        raise not_json()
    position += 1
    while position < len(body):
        piece = _piece(body, position, PIECE)
        quote = _without_escapes(piece).find(b'"')
        if quote >= 0:
            return position + quote + 1
        position += len(piece)
        yield
    raise not_json()


def _nested(body: bytes, position: int) -> Steps:
    """Return the position after a list or an object, its bracket included.

    Pieces grow until one of them has the end, then shrink around it: the time is linear in the value's length.
    """
    depth, inside, step, growing = 0, False, FIRST_PIECE, True
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
    raise not_json()


def _depths(piece: bytes, inside: bool, depth: int) -> tuple[int, int, bool]:
    """Count brackets outside of strings.

    Args:
        piece: of the body, with no escape cut in two.
        inside: whether it begins inside of a string.
        depth: brackets that are open before it.

    Returns:
        The fewest brackets that are open after any bracket of the piece, those open after the piece, and whether it
        ends inside of a string. The first is a lower bound if it is above 0, else exact.
    """
    parts = _without_escapes(piece).split(b'"')
    outside = b"".join(parts[inside::2])
    if outside.translate(None, _OUTSIDE):
        raise not_json()
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
    """Return the position after the value's bracket, in a piece that has its end."""
    for place, code in enumerate(_without_escapes(piece)):
        if code == ord('"'):
            inside = not inside
        elif not inside and code in b"[{":
            depth += 1
        elif not inside and code in b"]}":
            depth -= 1
            if depth == 0:
                return place + 1
    raise AssertionError  # `_depths` has counted the end in this piece


def _piece(body: bytes, position: int, size: int) -> bytes:
    """Return the next `size` bytes of the body, or one more, so that no escape is cut in two."""
    piece = body[position : position + size]
    if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
        piece = body[position : position + size + 1]
    return piece


def _without_escapes(piece: bytes) -> bytes:
    """Return the piece with x for escaped quotes and backslashes, in the same length.

    Then every quote begins or ends a string. Outside of strings neither a backslash nor an x is JSON.
    """
    return piece.replace(b"\\\\", b"xx").replace(b'\\"', b"xx") if b"\\" in piece else piece


def after_space(body: bytes, position: int) -> int:
    """Return the position of the next byte that is not white space."""
    space = _SPACE.match(body, position)
    assert space is not None  # noqa: S101  # it matches the empty text as well
    return space.end()


def after(body: bytes, position: int, mark: bytes) -> int:
    """Return the position after a mark that must be there.

    Raises:
        RequestError: 400 `invalid_json`.
    """
    if body[position : position + 1] != mark:
        raise not_json()
    return position + 1


def not_json() -> RequestError:
    """Return the error of a body that is not valid JSON."""
    return RequestError("the body is not valid JSON; send a JSON object in UTF-8", code="invalid_json")
