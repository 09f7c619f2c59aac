"""Accepts connections and keeps them pending until a request's head has arrived; then a protocol takes them over.

An event loop by itself accepts all connections and reads all data in one iteration. During a flood each iteration is
long, and a good client's request needs a dozen of them. So one iteration does a bounded amount of each work here.

Connections with a valid key are handed over first, and of the others a few in each iteration. A connection that sends
something else than a request, or no request in time, is refused here. The newest connections are read first, and the
newest without a key are handed over first: the connections of a flood are usually older.
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
from vicuna_server.gateway.connection_limits import ConnectionLimits
from vicuna_server.gateway.pending_connection import BUSY, PendingConnection

__all__ = ["Acceptor"]

ACCEPTED, READ, WITH_KEY, WITHOUT_KEY = 64, 64, 8, 1
"""How many connections one iteration of the loop accepts, reads, and hands over with and without a key.

Together that takes a few milliseconds.
"""
_CLOSED = 100
"""How many refused connections one `look` closes."""
_LINGERING = 1000
"""With more pending connections than this, one for which there is no room is closed at once."""
_PAUSE = 0.5
"""Seconds until it tries to accept again, after the process had no file descriptor left."""


class Acceptor:
    """The new connections of one port.

    Args:
        limits: counts all connections of the port, those handed over as well.
        has_valid_key: whether a complete head, with what follows it so far, has a valid key.
        on_refused: called with the status of a refusal.
        protocol: makes the protocol that takes a connection over, from the bytes received so far.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        has_valid_key: Callable[[bytes], bool],
        on_refused: Callable[[int], None],
        protocol: Callable[[bytes], asyncio.Protocol],
    ) -> None:
        self._limits = limits
        self._has_valid_key = has_valid_key
        self._on_refused = on_refused
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._loop.add_reader(self._epoll.fileno(), self._collect_ready)
        self._listeners: list[socket.socket] = []
        self._pending: dict[int, PendingConnection] = {}  # by file descriptor
        self._ready: list[tuple[int, PendingConnection]] = []  # to be read; a heap, the newest first
        self._with_key: deque[PendingConnection] = deque()
        self._without_key: dict[PendingConnection, None] = {}
        self._scheduled = False  # `_run_turn` is due
        self._numbers = count()
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, listener: socket.socket, backlog: int) -> None:
        """Accept the connections of a bound socket."""
        listener.setblocking(False)
        listener.listen(backlog)
        self._listeners.append(listener)
        self._loop.add_reader(listener.fileno(), self._accept, listener)

    def look(self, now: float) -> None:
        """Close some of the connections that have had time to read their refusal; `now` is of `time.monotonic`."""
        before = now - LINGER_SECONDS
        for connection in [each for each in self._pending.values() if each.refused_since < before][:_CLOSED]:
            self._limits.remove(connection)
            connection.abort()

    def close(self) -> None:
        """Stop accepting; hand over the connections whose head is complete, and close the others."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
        self._hand_over_some(len(self._with_key), len(self._without_key))
        for connection in list(self._pending.values()):
            self._limits.remove(connection)
            connection.abort()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor is left: without a pause the loop would try again at once
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(_PAUSE, self._resume_accepting, listener)
                return
            self._add(sock, address[0])

    def _resume_accepting(self, listener: socket.socket) -> None:
        if not self._epoll.closed:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _add(self, sock: socket.socket, address: str) -> None:
        sock.setblocking(False)
        connection = PendingConnection(next(self._numbers), sock, address, self._limits, self._on_refused, self._remove)
        self._pending[sock.fileno()] = connection
        self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLET)
        if not self._limits.admit(connection):
            connection.refuse(503, BUSY)
            if len(self._pending) > _LINGERING:
                connection.abort()

    def _remove(self, connection: PendingConnection) -> None:
        """Stop reading a connection here: it will be closed or handed over."""
        self._without_key.pop(connection, None)
        fd = connection.sock.fileno()
        if self._pending.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _collect_ready(self) -> None:
        """Collect the connections that have data; epoll names each once until all of it is read."""
        for fd, _ in self._epoll.poll(0):
            self._mark_ready(self._pending[fd])
        self._schedule()

    def _mark_ready(self, connection: PendingConnection) -> None:
        if not connection.ready:
            connection.ready = True
            heappush(self._ready, (-connection.number, connection))

    def _run_turn(self) -> None:
        self._scheduled = False
        for _ in range(min(READ, len(self._ready))):
            self._read(heappop(self._ready)[1])
        self._hand_over_some(WITH_KEY, WITHOUT_KEY)
        self._schedule()

    def _read(self, connection: PendingConnection) -> None:
        connection.ready = False
        more = not connection.closed and connection.read()
        if more and connection.complete:
            self._head_complete(connection)
        elif more:
            self._mark_ready(connection)

    def _head_complete(self, connection: PendingConnection) -> None:
        self._remove(connection)
        connection.waiting_since = None
        if self._has_valid_key(bytes(connection.head)):
            self._with_key.append(connection)
        else:
            self._without_key[connection] = None

    def _schedule(self) -> None:
        if not self._scheduled and (self._ready or self._with_key or self._without_key):
            self._scheduled = True
            self._loop.call_soon(self._run_turn)

    def _hand_over_some(self, with_key: int, without_key: int) -> None:
        for _ in range(min(with_key, len(self._with_key))):
            self._hand_over(self._with_key.popleft())
        for _ in range(min(without_key, len(self._without_key))):
            self._hand_over(self._without_key.popitem()[0])

    def _hand_over(self, connection: PendingConnection) -> None:
        if connection.closed:
            return
        self._limits.remove(connection)  # the protocol takes its place
        made = partial(self._protocol, bytes(connection.head))
        task = self._loop.create_task(_ignore_lost(self._loop.connect_accepted_socket(made, connection.sock)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _ignore_lost(handing_over: Coroutine[object, object, object]) -> None:
    with contextlib.suppress(OSError):  # the client has closed in the meantime
        await handing_over
