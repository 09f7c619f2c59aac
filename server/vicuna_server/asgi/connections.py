"""Closes connections that hold a place and do not get on: half-open, silent, or never reading."""

import math
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["HEAD_SECONDS", "KEEP_ALIVE_SECONDS", "ConnectionWatch"]

HEAD_SECONDS = 30.0
"""How long the head of a request may take to arrive; uvicorn itself would wait for ever."""
KEEP_ALIVE_SECONDS = 620
"""How long a connection that was used may be idle; common proxies and clients close theirs after 600 s at most.

Whoever closes an idle connection may meet a request that is on its way, which is then lost; so it is not the server.
"""


class ConnectionWatch:
    """Looks at uvicorn's connections now and then.

    One that has had a request and waits for the next, of which nothing has come, is left to uvicorn's own limit.

    Args:
        head_seconds: A new connection without a request, or one with a part of a head, is closed after so long.
        busy_seconds: A request that takes so long, with all that its client has yet to read, is cut off.
    """

    def __init__(self, head_seconds: float, busy_seconds: float) -> None:
        self.head_seconds = head_seconds
        self.busy_seconds = busy_seconds
        # What each connection was doing when looked at last, and since when.
        self._seen: WeakKeyDictionary[Any, tuple[object, float]] = WeakKeyDictionary()

    def look(self, connections: Iterable[Any], now: float) -> None:
        """Close what is overdue at the moment `now`, by `time.monotonic`."""
        for connection in list(connections):
            doing, limit = self._state(connection)
            before, since = self._seen.get(connection, (None, now))
            if doing != before:
                self._seen[connection] = (doing, now)
            elif connection.transport is not None and now - since > limit:
                # Not closed in order: that would wait for a client to read which does not.
                connection.transport.abort()

    def _state(self, connection: Any) -> tuple[object, float]:
        """Return what a connection is doing, and for how many seconds it may."""
        cycle, transport = getattr(connection, "cycle", None), connection.transport
        unread = transport is not None and transport.get_write_buffer_size() > 0
        busy = unread or (cycle is not None and not cycle.response_complete)
        begun = _has_begun(connection)
        idle_seconds = math.inf if cycle is not None and not begun else self.head_seconds
        return (id(cycle), busy, begun), self.busy_seconds if busy else idle_seconds


def _has_begun(connection: Any) -> bool:
    """Whether a part of a head has come; of other protocols than h11's nothing is known, so that it may have."""
    parser = getattr(connection, "conn", None)
    return parser is None or bool(parser.trailing_data[0])
