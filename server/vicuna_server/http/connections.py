"""Closes connections that hold a place and do not get on: half-open, silent, or never reading."""

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["HEAD_SECONDS", "ConnectionWatch"]

HEAD_SECONDS = 30.0
"""How long the head of a request may take to arrive; uvicorn itself would wait for ever."""


class ConnectionWatch:
    """Looks at uvicorn's connections now and then.

    Args:
        head_seconds: A connection without a request for so long is closed.
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
            cycle, transport = getattr(connection, "cycle", None), connection.transport
            unread = transport is not None and transport.get_write_buffer_size() > 0
            busy = unread or (cycle is not None and not cycle.response_complete)
            doing = (id(cycle), busy)
            before, since = self._seen.get(connection, (None, now))
            if doing != before:
                self._seen[connection] = (doing, now)
            elif now - since > (self.busy_seconds if busy else self.head_seconds) and transport is not None:
                # Not closed in order: that would wait for a client to read which does not.
                transport.abort()
