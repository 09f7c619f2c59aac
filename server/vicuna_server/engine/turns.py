"""Whose turn it is where many wait: equal shares for all callers, which are told apart by their API keys.

Who holds least comes first, then whoever is not `flex`, then who came first. So one key may hold everything while no
other waits.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

from vicuna_server.engine.scope import CacheScope

__all__ = ["first_turn", "give_way", "holds_too_many"]

T = TypeVar("T")


def first_turn(waiting: Iterable[T], scope: Callable[[T], CacheScope], held: Counter[str]) -> T | None:
    """Return who comes next of those that wait, given in the order of their coming; None where nobody waits.

    Args:
        waiting: requests.
        scope: of a request.
        held: how many requests of each caller run.
    """

    def place(each: T) -> tuple[int, bool]:
        whose = scope(each)
        return held[whose.caller], whose.flex

    return min(waiting, key=place, default=None)


def give_way(
    running: Iterable[T], scope: Callable[[T], CacheScope], held: Counter[str], waiting: CacheScope
) -> list[T]:
    """Return the running requests of which one should give its place to one that waits; none should: an empty list.

    They are of the caller that holds most, if it holds more than the one that waits; else what is `flex` of the same.
    """
    most = holds_too_many(held, waiting.caller)
    if most is None and waiting.flex:
        return []
    whose = waiting.caller if most is None else most
    theirs = [one for one in running if scope(one).caller == whose]
    flex = [one for one in theirs if scope(one).flex]
    return flex if most is None else flex or theirs


def holds_too_many(held: Counter[str], caller: str) -> str | None:
    """Return who holds most, if one of its requests should give way to one of `caller`; None: none should.

    Afterwards the one has at least as many as the other, so that they never take places from each other in turn.
    """
    (most, count), *_ = held.most_common(1) or [("", 0)]
    return most if count - held[caller] >= 2 else None
