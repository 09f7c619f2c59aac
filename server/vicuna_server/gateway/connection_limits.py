"""The connections of one port: how many there may be, which are closed to make room, and which are overdue. Pure.

A new connection is admitted. Where the limit is reached, the oldest connection that has shown no valid key is closed,
else the one that has been idle for longest. So clients that hold idle connections, from one address or from many, keep
nobody out. The probes of the node still get through.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Protocol

from vicuna_server.asgi.connections import HEAD_SECONDS
from vicuna_server.asgi.heads import HEAD_BYTES

__all__ = ["HEADS_BYTES", "ConnectionLimits", "LimitedConnection"]

HEADS_BYTES = 32 * 2**20
"""Bytes of heads under way, of all connections together."""
_ENDED = 100
"""How many overdue connections one `look` closes: a thousand refusals at once would delay all other requests."""


class LimitedConnection(Protocol):
    """One connection.

    Attributes:
        address: the client's, or that of the proxy before it.
        waiting_since: since when it waits for a request, by the clock; None: a request is under way.
        head_bytes: bytes of an incomplete head that have arrived.
    """

    address: str
    waiting_since: float | None
    head_bytes: int

    def abort(self) -> None:
        """Close it at once."""

    def time_out(self) -> None:
        """Close it because its request did not arrive in time; a client that has begun one gets a response."""


class ConnectionLimits:
    """Counts every open connection of a port.

    Args:
        most: returns how many there may be; called each time, since the process's limits may change.
        most_per_address: how many of one address; 0: any number.
        proxies: whether an address is that of a trusted proxy, behind which many clients are.
        head_seconds: within which a head must arrive.
        heads_bytes: bytes of all incomplete heads together.
    """

    def __init__(
        self,
        most: Callable[[], int],
        most_per_address: int = 0,
        proxies: Callable[[str], bool] = lambda _: False,
        head_seconds: float = HEAD_SECONDS,
        heads_bytes: int = HEADS_BYTES,
    ) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._proxies = proxies
        self._head_seconds = head_seconds
        self._heads_bytes = max(heads_bytes, 2 * HEAD_BYTES)
        self._open: set[LimitedConnection] = set()
        self._closing: dict[LimitedConnection, None] = {}  # have their last response
        self._unauthenticated: dict[LimitedConnection, None] = {}  # have shown no valid key; the oldest first
        self._idle: dict[LimitedConnection, None] = {}  # have shown a key, no request under way; the longest first
        self._receiving_head: dict[LimitedConnection, None] = {}  # have sent a part of a head; the longest first
        self._per_address: Counter[str] = Counter()
        self._heads = 0

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: LimitedConnection) -> bool:
        """Count a new connection; False: the limit is reached, and no connection can be closed."""
        if not self._room(connection):
            return False
        self._open.add(connection)
        self._unauthenticated[connection] = None
        self._per_address[connection.address] += 1
        return True

    def remove(self, connection: LimitedConnection) -> None:
        """Stop counting a connection; further calls do nothing."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        for some in (self._closing, self._unauthenticated, self._idle):
            some.pop(connection, None)
        self._drop_head(connection)
        self._per_address[connection.address] -= 1
        if not self._per_address[connection.address]:
            del self._per_address[connection.address]

    def mark_closing(self, connection: LimitedConnection) -> None:
        """Mark a connection that has its last response: it is closed first to make room."""
        if connection in self._open:
            self._drop_head(connection)
            self._idle.pop(connection, None)
            self._unauthenticated.pop(connection, None)
            self._closing[connection] = None

    def mark_authenticated(self, connection: LimitedConnection) -> None:
        """Mark a connection whose client has shown a valid key."""
        self._unauthenticated.pop(connection, None)

    def mark_busy(self, connection: LimitedConnection) -> None:
        """Mark a connection that has a request under way."""
        self._idle.pop(connection, None)
        self._drop_head(connection)

    def mark_idle(self, connection: LimitedConnection) -> None:
        """Mark a connection that has no request under way any more."""
        if connection in self._open and connection not in self._unauthenticated and connection not in self._closing:
            self._idle[connection] = None

    def add_head_bytes(self, connection: LimitedConnection, size: int) -> None:
        """Count `size` bytes of a head; where all heads together are too large, close those that began first."""
        if connection not in self._open:
            return
        connection.head_bytes += size
        self._heads += size
        self._receiving_head[connection] = None
        while self._heads > self._heads_bytes:
            self._end(next(each for each in self._receiving_head if each is not connection))

    def look(self, connections: Collection[object], now: float) -> None:
        """Close connections whose request did not arrive in time, some at each call."""
        del connections  # uvicorn's own list of them
        overdue = (each for each in self._open if self._overdue(each, now))
        for connection in list(islice(overdue, _ENDED)):
            connection.time_out()

    def _overdue(self, connection: LimitedConnection, now: float) -> bool:
        begun = connection.head_bytes > 0 or connection in self._unauthenticated
        return begun and connection.waiting_since is not None and now - connection.waiting_since > self._head_seconds

    def _drop_head(self, connection: LimitedConnection) -> None:
        self._heads -= connection.head_bytes
        connection.head_bytes = 0
        self._receiving_head.pop(connection, None)

    def _room(self, connection: LimitedConnection) -> bool:
        address = connection.address
        counted = self._most_per_address and not self._proxies(address)
        if counted and self._per_address[address] >= self._most_per_address and not self._make_room(address):
            return False
        return len(self._open) < self._most() or self._make_room()

    def _make_room(self, address: str | None = None) -> bool:
        for each in self._closable():
            if address is None or each.address == address:
                self._end(each)
                return True
        return False

    def _closable(self) -> Iterator[LimitedConnection]:
        yield from self._closing
        yield from self._unauthenticated
        yield from self._idle

    def _end(self, connection: LimitedConnection) -> None:
        self.remove(connection)
        connection.abort()
