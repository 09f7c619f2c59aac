"""Limits the requests of a key in any minute; each replica of the gateway grants its share."""

import time
from collections.abc import Callable

from vicuna_server.gateway.sliding_window import SlidingWindow

__all__ = ["Rates"]

_MOST_KEYS = 10_000


class Rates:
    """Counts the requests of the last minute.

    The replicas do not share counts: each grants 1/n of the limit, where n is the number of ready replicas. A client
    whose requests all go to one replica may get less than the limit.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.replicas = 1
        self._recent: dict[str, SlidingWindow] = {}

    def share(self, limit: int) -> int:
        """Return this replica's share of a limit that is for all replicas together."""
        return max(1, limit // self.replicas)

    def take(self, key: str, per_minute: int | None) -> float:
        """Count one request.

        Args:
            key: name of the key.
            per_minute: requests a minute over all replicas; None: no limit.

        Returns:
            0 if it may proceed, else the seconds after which it may.
        """
        if per_minute is None:
            return 0.0
        if len(self._recent) >= _MOST_KEYS and key not in self._recent:
            self._recent.clear()  # far more names than keys in use, so old names: forget them
        recent, now = self._recent.setdefault(key, SlidingWindow()), self._clock()
        wait = recent.wait(self.share(per_minute) - 1, now)
        if not wait:
            recent.add(1, now)
        return wait
