"""Closes connections that hold a place without progress: half-open, silent, or with a client that does not read."""

import math
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["HEAD_SECONDS", "KEEP_ALIVE_SECONDS", "ConnectionWatch"]

HEAD_SECONDS = 30.0
"""Time for the head of a request to arrive; uvicorn has no limit of its own."""
KEEP_ALIVE_SECONDS = 620
"""How long a used connection may be idle. Common proxies and clients close theirs after 600 s at most.

Longer than theirs, so that clients close first: a server that closes an idle connection may lose a request on its way.
"""


class ConnectionWatch:
    """Checks uvicorn's connections at intervals.

    A connection that is idle after a request is left to uvicorn's own limit.

    Args:
        head_seconds: Time for a new connection's first request, and for a head that has begun.
        busy_seconds: Time for a request and its response, until the client has read all of it.
    """

    def __init__(self, head_seconds: float, busy_seconds: float) -> None:
        self.head_seconds = head_seconds
        self.busy_seconds = busy_seconds
        # The last known state of each connection, and since when it is in that state.
        self._seen: WeakKeyDictionary[Any, tuple[object, float]] = WeakKeyDictionary()

    def look(self, connections: Iterable[Any], now: float) -> None:
        """Close what is overdue at the moment `now`, by `time.monotonic`."""
        for connection in list(connections):
            state, limit = self._state(connection)
            before, since = self._seen.get(connection, (None, now))
            if state != before:
                self._seen[connection] = (state, now)
            elif connection.transport is not None and now - since > limit:
                # Aborted, since an orderly close would wait for a client that does not read.
                connection.transport.abort()

    def _state(self, connection: Any) -> tuple[object, float]:
        """Return the state of a connection, and for how many seconds it may be in it."""
        cycle, transport = getattr(connection, "cycle", None), connection.transport
        unread = transport is not None and transport.get_write_buffer_size() > 0
        busy = unread or (cycle is not None and not cycle.response_complete)
        begun = _has_begun(connection)
        idle_seconds = math.inf if cycle is not None and not begun else self.head_seconds
        return (id(cycle), busy, begun), self.busy_seconds if busy else idle_seconds


def _has_begun(connection: Any) -> bool:
    """Return whether a part of a head has come; True for protocols other than h11's, where it is unknown."""
    parser = getattr(connection, "conn", None)
    return parser is None or bool(parser.trailing_data[0])
