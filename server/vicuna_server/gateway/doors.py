"""The connections of one port: how many there may be, whose turn it is to go, and who is overdue. Pure.

Who comes last is let in: where all places are taken, the oldest connection makes room that has shown no key yet, or
whose client is known and asks nothing now. So whoever holds connections open without asking for anything, from one
address or from many, keeps out nobody, the probes of the node among them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Protocol

from vicuna_server.asgi.connections import HEAD_SECONDS
from vicuna_server.asgi.heads import HEAD_BYTES

__all__ = ["HEADS_BYTES", "Door", "Doors"]

HEADS_BYTES = 32 * 2**20
"""Bytes of heads under way, of all connections together."""
_ENDED = 100
"""Connections whose time is over, of one look: a thousand refusals at once would hold everybody up."""


class Door(Protocol):
    """One connection.

    Attributes:
        address: the client's, or that of the proxy before it.
        awaits: it waits for a request, and when it began to, by the clock; None: one is under way.
        head_bytes: what of a head has arrived that is not whole.
    """

    address: str
    awaits: float | None
    head_bytes: int

    def cut(self) -> None:
        """End it at once."""

    def time_out(self) -> None:
        """End it with a word to the client, if it has begun to ask."""


class Doors:
    """Knows every open connection of a port.

    Args:
        most: how many there may be; asked anew each time, since the process's limits may change.
        most_per_address: how many of one address; 0: any number.
        proxies: whether an address is that of a trusted proxy, behind which many clients are.
        head_seconds: for a head to arrive.
        heads_bytes: of all heads under way.
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
        self._open: set[Door] = set()
        self._leaving: dict[Door, None] = {}  # answered, to be closed
        self._strangers: dict[Door, None] = {}  # no key yet; the oldest first
        self._resting: dict[Door, None] = {}  # known, asks nothing; the longest first
        self._arriving: dict[Door, None] = {}  # half a head is there; the longest first
        self._of_address: Counter[str] = Counter()
        self._heads = 0

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, door: Door) -> bool:
        """Count a new connection; False: there is no room, and nobody who could make some."""
        if not self._room(door):
            return False
        self._open.add(door)
        self._strangers[door] = None
        self._of_address[door.address] += 1
        return True

    def leave(self, door: Door) -> None:
        """Learn that a connection is gone; once is enough."""
        if door not in self._open:
            return
        self._open.discard(door)
        for some in (self._leaving, self._strangers, self._resting):
            some.pop(door, None)
        self._no_head(door)
        self._of_address[door.address] -= 1
        if not self._of_address[door.address]:
            del self._of_address[door.address]

    def closing(self, door: Door) -> None:
        """Learn that a connection only waits for its end: it is the first to make room."""
        if door in self._open:
            self._no_head(door)
            self._resting.pop(door, None)
            self._strangers.pop(door, None)
            self._leaving[door] = None

    def known(self, door: Door) -> None:
        """Learn that a connection's client may come in."""
        self._strangers.pop(door, None)

    def asks(self, door: Door) -> None:
        """Learn that a request is under way."""
        self._resting.pop(door, None)
        self._no_head(door)

    def rests(self, door: Door) -> None:
        """Learn that no request is under way any more."""
        if door in self._open and door not in self._strangers and door not in self._leaving:
            self._resting[door] = None

    def head_came(self, door: Door, size: int) -> None:
        """Count so many bytes of a head; where all heads together are too much, those of the oldest go."""
        if door not in self._open:
            return
        door.head_bytes += size
        self._heads += size
        self._arriving[door] = None
        while self._heads > self._heads_bytes:
            self._end(next(each for each in self._arriving if each is not door))

    def look(self, connections: Collection[object], now: float) -> None:
        """End the connections whose request has not come in time; of a crowd some at each call."""
        del connections  # uvicorn's own list of them
        overdue = (door for door in self._open if door.awaits is not None and self._overdue(door, now))
        for door in list(islice(overdue, _ENDED)):
            door.time_out()

    def _overdue(self, door: Door, now: float) -> bool:
        begun = door.head_bytes > 0 or door in self._strangers
        return begun and door.awaits is not None and now - door.awaits > self._head_seconds

    def _no_head(self, door: Door) -> None:
        self._heads -= door.head_bytes
        door.head_bytes = 0
        self._arriving.pop(door, None)

    def _room(self, door: Door) -> bool:
        counted = self._most_per_address and not self._proxies(door.address)
        if counted and self._of_address[door.address] >= self._most_per_address and not self._make_room(door.address):
            return False
        return len(self._open) < self._most() or self._make_room()

    def _make_room(self, address: str | None = None) -> bool:
        for each in self._by_age():
            if address is None or each.address == address:
                self._end(each)
                return True
        return False

    def _by_age(self) -> Iterator[Door]:
        yield from self._leaving
        yield from self._strangers
        yield from self._resting

    def _end(self, door: Door) -> None:
        self.leave(door)
        door.cut()
