"""How often a key may ask: in any minute, of which each replica of the gateway grants its share."""

import time
from collections.abc import Callable

from vicuna_server.gateway.sliding_window import SlidingWindow

__all__ = ["Rates"]

_MOST_KEYS = 10_000


class Rates:
    """Requests of the last minute.

    The replicas do not talk to each other: each grants 1/n of the rate, n being the ready replicas. With requests
    spread evenly that is the whole rate; a client that keeps one connection may get less.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.replicas = 1
        self._recent: dict[str, SlidingWindow] = {}

    def share(self, limit: int) -> int:
        """Return what this replica grants of a limit of all replicas together."""
        return max(1, limit // self.replicas)

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
        if len(self._recent) >= _MOST_KEYS and key not in self._recent:
            self._recent.clear()  # keys are few; so many were renamed, not used
        recent, now = self._recent.setdefault(key, SlidingWindow()), self._clock()
        wait = recent.wait(self.share(per_minute) - 1, now)
        if not wait:
            recent.add(1, now)
        return wait
