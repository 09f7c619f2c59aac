"""JSON values changed at random, for readers that must take whatever there is."""

import random
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 2**63, 10**400, 1e308, float("inf"), float("nan")),
    *("", "x", "..", "a\n\x1b[31m", "\ud800", "é" * 300, "/", "*", "[", "a/b"),
    *([], {}, [[]], {"a": {}}, [None], ["x"], [{}]),
    *("2026-13-45T99:99:99Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
)


def mutated(moves: random.Random, value: Any) -> Any:
    """Return the value with one place in it changed: another type, an odd value, missing, or twice."""
    choice = moves.randrange(12)
    if choice == 0:
        return moves.choice(ODD)
    if isinstance(value, dict) and value:
        changed, name = dict(value), moves.choice(list(value))
        if choice == 1:
            changed.pop(name)
        elif choice == 2:
            changed[moves.choice(("x", "", "status", "metadata", "\ud800"))] = moves.choice((1, {}, []))
        else:
            changed[name] = mutated(moves, value[name])
        return changed
    if isinstance(value, list) and value:
        place, listed = moves.randrange(len(value)), list(value)
        if choice == 1:
            return listed[:place] + listed[place + 1 :]
        if choice == 2:
            return listed * 2
        listed[place] = mutated(moves, listed[place])
        return listed
    return moves.choice(ODD)


def flipped(moves: random.Random, data: bytes) -> bytes:
    """Return bytes with some of them changed, left out, or new."""
    changed = bytearray(data)
    for _ in range(moves.choice((1, 1, 2, 4, 16))):
        place = moves.randrange(len(changed) + 1)
        piece = moves.choice((b"\x00", b"\xff", b"{", b"[", b'"', b"1e999", b"\xed\xa0\x80", b"9" * 5000, b"[" * 3000))
        kind = moves.randrange(4)
        if kind == 0 and changed:
            changed[place % len(changed)] ^= 1 << moves.randrange(8)
        elif kind == 1:
            changed[place:place] = piece
        elif kind == 2:
            del changed[place : place + moves.randrange(1, 9)]
        elif kind == 3:
            changed[place : place + len(piece)] = piece
    return bytes(changed)
