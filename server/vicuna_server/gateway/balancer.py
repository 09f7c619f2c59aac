"""Chooses the endpoint of the next request: the one with the fewest under way; those that just failed come last."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

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

    def pick(self, endpoints: Sequence[Endpoint], tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return the endpoint to try next, equal ones in turn; None when all have been tried."""
        left = [endpoint for endpoint in endpoints if endpoint not in tried]
        if not left:
            return None
        self._turn += 1
        places = range(len(left))
        best = min(places, key=lambda place: (self._rank(left[place]), (place + self._turn) % len(left)))
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

    def _rank(self, endpoint: Endpoint) -> tuple[bool, int]:
        at = self._failed.get(endpoint)
        return (at is not None and self._clock() - at < _SUSPECT_SECONDS, self._under_way[endpoint])
