"""Chooses the endpoint of the next request: the one that it prefers, else the one with the fewest under way.

Those that just failed come last.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from vicuna_server.gateway.affinity import NONE, Affinity, choose
from vicuna_server.gateway.catalogue import Endpoint

__all__ = ["Balancer"]

_SUSPECT_SECONDS = 5.0


class Balancer:
    """Counts the requests under way at each endpoint.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._under_way: Counter[Endpoint] = Counter()
        self._failed: dict[Endpoint, float] = {}
        self._turn = 0

    @property
    def under_way(self) -> int:
        """Requests under way at all endpoints."""
        return self._under_way.total()

    def pick(
        self, endpoints: Sequence[Endpoint], tried: Collection[Endpoint] = (), affinity: Affinity = NONE
    ) -> Endpoint | None:
        """Return the endpoint to try next; None when all have been tried.

        Args:
            endpoints: those that are ready.
            tried: those of them that had the request already.
            affinity: what it prefers one by; without a key equal ones have their turn.
        """
        left = [endpoint for endpoint in endpoints if endpoint not in tried]
        left = [endpoint for endpoint in left if not self._is_suspect(endpoint)] or left
        if not left:
            return None
        if affinity.key:
            return choose(affinity, left, self._under_way.__getitem__)
        self._turn += 1
        places = range(len(left))
        best = min(places, key=lambda place: (self._under_way[left[place]], (place + self._turn) % len(left)))
        return left[best]

    @contextmanager
    def sending(self, endpoint: Endpoint) -> Iterator[None]:
        """Count a request as under way at an endpoint."""
        self._under_way[endpoint] += 1
        try:
            yield
        finally:
            self._under_way[endpoint] -= 1
            if not self._under_way[endpoint]:
                del self._under_way[endpoint]

    def failed(self, endpoint: Endpoint) -> None:
        """Record that an endpoint did not respond: for a few seconds others are preferred."""
        now = self._clock()
        self._failed = {each: at for each, at in self._failed.items() if now - at < _SUSPECT_SECONDS}
        self._failed[endpoint] = now

    def _is_suspect(self, endpoint: Endpoint) -> bool:
        at = self._failed.get(endpoint)
        return at is not None and self._clock() - at < _SUSPECT_SECONDS
