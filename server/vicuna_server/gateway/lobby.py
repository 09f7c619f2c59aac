"""Where new connections wait until they have asked: of each a socket and what has come of a head, and nothing else.

By itself an event loop takes in, within one of its turns, everybody who has come and everything that was said: beside a
crowd each turn is long, and a good client's request needs a dozen of them. Here a turn has its share of each. Who
brings a key that opens something goes in first; of the others a few go in a turn, and what is no request, or is none
in time, is answered here. Who came last is read first, and without a key goes in first: a crowd has come before.
"""

import asyncio
import contextlib
import select
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from heapq import heappop, heappush
from itertools import count

from vicuna_server.asgi.lingering import LINGER_SECONDS
from vicuna_server.gateway.doors import Doors
from vicuna_server.gateway.visitor import BUSY, Visitor

__all__ = ["Lobby"]

ACCEPTED, READ, WITH_KEY, WITHOUT = 64, 64, 8, 1
"""Of each so many in one turn of the loop: together a few milliseconds."""
_CLOSED = 100
"""After lingering, each time that is looked."""
_LINGERING = 1000
"""Beyond so many in the lobby, whom there is no room for has not the time to read it."""
_PAUSE = 0.5
"""Seconds until the next attempt, where the process has no descriptor for another connection."""


class Lobby:
    """The new connections of one port.

    Args:
        doors: counts them, those that have gone in as well.
        knows: whether what has come of a request, its head whole, has a key that opens something.
        refused: told the status of what never became a request.
        protocol: makes who takes over, from what has come.
    """

    def __init__(
        self,
        doors: Doors,
        knows: Callable[[bytes], bool],
        refused: Callable[[int], None],
        protocol: Callable[[bytes], asyncio.Protocol],
    ) -> None:
        self._doors = doors
        self._knows = knows
        self._refused = refused
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._loop.add_reader(self._epoll.fileno(), self._hear)
        self._listeners: list[socket.socket] = []
        self._there: dict[int, Visitor] = {}  # by file descriptor
        self._ready: list[tuple[int, Visitor]] = []  # something has come; a heap, the newest first
        self._with_key: deque[Visitor] = deque()
        self._without: dict[Visitor, None] = {}
        self._called = False  # a turn is due
        self._numbers = count()
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, listener: socket.socket, backlog: int) -> None:
        """Take in whom a bound socket brings."""
        listener.setblocking(False)
        listener.listen(backlog)
        self._listeners.append(listener)
        self._loop.add_reader(listener.fileno(), self._accept, listener)

    def look(self, now: float) -> None:
        """Close, some at a time, who has had the time to read a refusal; by `time.monotonic`."""
        for visitor in [each for each in self._there.values() if each.left_since < now - LINGER_SECONDS][:_CLOSED]:
            self._doors.leave(visitor)
            visitor.cut()

    def close(self) -> None:
        """Take in nobody any more; who has asked goes in."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
        self._let_in(len(self._with_key), len(self._without))
        for visitor in list(self._there.values()):
            self._doors.leave(visitor)
            visitor.cut()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor: the loop would ask again at once
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(_PAUSE, self._again, listener)
                return
            self._come(sock, address[0])

    def _again(self, listener: socket.socket) -> None:
        if not self._epoll.closed:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _come(self, sock: socket.socket, address: str) -> None:
        sock.setblocking(False)
        visitor = Visitor(next(self._numbers), sock, address, self._doors, self._refused, self._forget)
        self._there[sock.fileno()] = visitor
        self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLET)
        if not self._doors.enter(visitor):
            visitor.refuse(503, BUSY)
            if len(self._there) > _LINGERING:
                visitor.cut()

    def _forget(self, visitor: Visitor) -> None:
        """Learn that a visitor's socket is not to be read here any more, and will be closed or given away."""
        self._without.pop(visitor, None)
        fd = visitor.sock.fileno()
        if self._there.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _hear(self) -> None:
        """Learn of whom something has come; each is named once, until all of it has been read."""
        for fd, _ in self._epoll.poll(0):
            self._is_ready(self._there[fd])
        self._call()

    def _is_ready(self, visitor: Visitor) -> None:
        if not visitor.ready:
            visitor.ready = True
            heappush(self._ready, (-visitor.number, visitor))

    def _turn(self) -> None:
        self._called = False
        for _ in range(min(READ, len(self._ready))):
            self._read(heappop(self._ready)[1])
        self._let_in(WITH_KEY, WITHOUT)
        self._call()

    def _read(self, visitor: Visitor) -> None:
        visitor.ready = False
        more = not visitor.gone and visitor.read()
        if more and visitor.whole:
            self._asked(visitor)
        elif more:
            self._is_ready(visitor)

    def _asked(self, visitor: Visitor) -> None:
        self._forget(visitor)
        visitor.awaits = None
        if self._knows(bytes(visitor.head)):
            self._with_key.append(visitor)
        else:
            self._without[visitor] = None

    def _call(self) -> None:
        if not self._called and (self._ready or self._with_key or self._without):
            self._called = True
            self._loop.call_soon(self._turn)

    def _let_in(self, with_key: int, without: int) -> None:
        for _ in range(min(with_key, len(self._with_key))):
            self._enter(self._with_key.popleft())
        for _ in range(min(without, len(self._without))):
            self._enter(self._without.popitem()[0])

    def _enter(self, visitor: Visitor) -> None:
        if visitor.gone:
            return
        self._doors.leave(visitor)  # the protocol takes its place
        made = partial(self._protocol, bytes(visitor.head))
        task = self._loop.create_task(_quietly(self._loop.connect_accepted_socket(made, visitor.sock)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _quietly(entering: Coroutine[object, object, object]) -> None:
    with contextlib.suppress(OSError):  # the client has gone in the meantime
        await entering
