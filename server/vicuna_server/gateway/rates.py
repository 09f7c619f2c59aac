"""How often a key may ask: a bucket per key, of which each replica of the gateway keeps its share."""

import time
from collections.abc import Callable

__all__ = ["Rates"]

_MOST_KEYS = 10_000


class Rates:
    """Token buckets that hold up to a minute's requests.

    The replicas do not talk to each other: each grants 1/n of the rate, n being the ready replicas. With requests
    spread evenly that is the whole rate; a client that keeps one connection may get less.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.replicas = 1
        self._buckets: dict[str, tuple[float, float]] = {}  # requests left, and when that was so

    def take(self, key: str, per_minute: int | None) -> float:
        """Count one request.

        Args:
            key: name of the key.
            per_minute: requests a minute over all replicas; None: no limit.

        Returns:
            0 when it may go on, else the seconds after which it may.
        """
        if per_minute is None:
            return 0.0
        most = max(1.0, per_minute / self.replicas)
        now = self._clock()
        left, at = self._buckets.get(key, (most, now))
        left = min(most, left + (now - at) * most / 60)
        if left < 1:
            self._buckets[key] = (left, now)
            return (1 - left) * 60 / most
        if len(self._buckets) >= _MOST_KEYS and key not in self._buckets:
            self._buckets.clear()  # keys are few; so many were renamed, not used
        self._buckets[key] = (left - 1, now)
        return 0.0
