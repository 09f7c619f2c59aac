"""Whose turn it is where many wait: equal shares for all callers, which are told apart by their API keys.

Who holds least comes first, and among equals who came first. So one key may hold everything while no other waits.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = ["first_turn", "gives_way"]

T = TypeVar("T")


def first_turn(waiting: Iterable[T], caller: Callable[[T], str], held: Counter[str]) -> T | None:
    """Return who comes next of those that wait, given in the order of their coming; None where nobody waits.

    Args:
        waiting: requests.
        caller: of a request.
        held: how many requests of each caller run.
    """
    return min(waiting, key=lambda each: held[caller(each)], default=None)


def gives_way(held: Counter[str], caller: str) -> str | None:
    """Return who holds most, if one of its requests should give way to one of `caller`; None: none should.

    Afterwards the one has at least as many as the other, so that they never take places from each other in turn.
    """
    (most, count), *_ = held.most_common(1) or [("", 0)]
    return most if count - held[caller] >= 2 else None
