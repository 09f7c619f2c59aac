"""How many requests one replica has for each model: sent to a server, or held until one is ready. Pure."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vicuna_contract.demand import Demand

__all__ = ["MOST_ENTRIES", "DemandCounts"]

Key = tuple[str, str]
"""Namespace and name of a model."""
MOST_ENTRIES = 5000
"""Models that one object has room for, as the CRD says."""


class DemandCounts:
    """Counts requests under way and held.

    Attributes:
        on_change: called with the model's key after each change.
    """

    def __init__(self) -> None:
        self.on_change: Callable[[Key], None] = lambda _: None
        self._under_way: Counter[Key] = Counter()
        self._held: Counter[Key] = Counter()

    @contextmanager
    def under_way(self, key: Key) -> Iterator[None]:
        """Count a request that was sent to a server, until its response is over."""
        with self._counting(self._under_way, key):
            yield

    @contextmanager
    def holding(self, key: Key) -> Iterator[None]:
        """Count a request that waits until a server is ready."""
        with self._counting(self._held, key):
            yield

    def held(self, key: Key) -> int:
        """Return how many requests of a model are held."""
        return self._held[key]

    def stated(self, matters: Callable[[Key], bool]) -> tuple[Demand, ...]:
        """Return the demand for the models that matter, by key; those with held requests first if there are too many.

        Args:
            matters: whether the demand for a model is to be stated.
        """
        keys = [key for key in self._under_way.keys() | self._held.keys() if matters(key)]
        kept = sorted(keys, key=lambda key: (-self._held[key], key))[:MOST_ENTRIES]
        return tuple(Demand(*key, self._under_way[key], self._held[key]) for key in sorted(kept))

    @contextmanager
    def _counting(self, counts: Counter[Key], key: Key) -> Iterator[None]:
        counts[key] += 1
        self.on_change(key)
        try:
            yield
        finally:
            counts[key] -= 1
            if not counts[key]:
                del counts[key]
            self.on_change(key)
