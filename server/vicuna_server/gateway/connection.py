"""One connection of the gateway: uvicorn's protocol over httptools, with bounds where that has none.

Bounded are the head of a request, while it arrives; what of the next requests a client sends before the answer to the
first; and how long a closed connection stays. `Doors` bounds how many there are. A response that begins before its
request is whole closes the connection: nobody will read the rest.
"""

import asyncio
import contextlib
import socket
import time
from typing import cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from vicuna_server.asgi.heads import HEAD_BYTES, MOST_HEADERS, no_request
from vicuna_server.asgi.lingering import Linger
from vicuna_server.gateway.bounded_config import BoundedConfig
from vicuna_server.gateway.plain_http import PlainHttp
from vicuna_server.gateway.visitor import BUSY, HEAD_TIMEOUT

__all__ = ["CONNECTION", "CYCLE", "Connection"]

CONNECTION, CYCLE = "connection", "cycle"
"""Under these names a request's ASGI state has its connection, and uvicorn's half of the request."""

WRITE_AHEAD = 16 * 2**10
"""Bytes of an answer that wait for a client which does not read, before its sender waits as well."""

STRANGERS_AHEAD, CLIENTS_AHEAD = 32 * 2**10, 2**20
"""Bytes that the kernel takes for a client which does not read, before its first key and from then on (no more than
`net.core.wmem_max`). By itself it would take megabytes for each, and they count as the container's memory."""

_MOST_AHEAD = 8
_MOST_AHEAD_BYTES = 16 * 2**10


class _Transport:
    """A transport whose `close` is the connection's own; all else goes to it directly."""

    def __init__(self, transport: asyncio.Transport, connection: "Connection") -> None:
        self._connection = connection
        self._transport = transport
        self.write = transport.write
        self.abort = transport.abort
        self.write_eof = transport.write_eof
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size

    def is_closing(self) -> bool:
        return self._connection.leaving or self._transport.is_closing()

    def close(self) -> None:
        self._connection.close(self._transport)


class Connection(PlainHttp):
    """See the module; also the `Door` that `Doors` knows."""

    config: BoundedConfig

    def __init__(self, *args: object, came: bytes = b"", **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._came = came  # before there was a transport
        self.address = ""
        self.awaits: float | None = time.monotonic()
        self.head_bytes = 0
        self._doors = self.config.doors
        self._known = False
        self._linger: Linger | None = None
        self._in_head = True
        self._deaf = False  # what comes is not looked at
        self._status = 400
        self._answered: RequestResponseCycle | None = None  # the request whose turn it is
        self._ahead = 0  # bytes of bodies behind it

    @property
    def leaving(self) -> bool:
        """Whether it is closed, as far as the application can tell."""
        return self._linger is not None

    @property
    def stays(self) -> bool:
        """Whether it may ask again: who has shown no key comes in anew for each request, and waits for a turn."""
        return self._known or self.config.knows(b"")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place among the connections."""
        transport.set_write_buffer_limits(high=WRITE_AHEAD)
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self)))
        self.address = self.client[0] if self.client else ""
        self._kernel_takes(STRANGERS_AHEAD)
        if not self._doors.enter(self):
            self._refuse(503, BUSY)
        elif self._came:
            came, self._came = self._came, b""
            self.data_received(came)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._doors.leave(self)
        if self._linger is not None:
            self._linger.over()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        for cycle, _ in self.pipeline:
            cycle.disconnected = True
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        # What refers to itself stays until the collector comes, which holds up everybody while it looks.
        self.pipeline.clear()
        self.cycle = self.scope = self.transport = self.flow = self._answered = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Read on, as long as the head is within its bounds."""
        rest = memoryview(data)
        while rest and not self._deaf and not self.leaving:
            room = HEAD_BYTES + 1 - self.head_bytes if self._in_head else HEAD_BYTES
            piece, rest = rest[:room], rest[room:]
            if self._in_head:
                self._head_came(len(piece))
            super().data_received(cast(bytes, piece))
            if self._in_head and self.head_bytes > HEAD_BYTES:
                self._status = 431
                self.send_400_response("")
        if self._linger is not None:
            self._linger.drop(len(rest))

    def _head_came(self, size: int) -> None:
        if not self.head_bytes and self.awaits is not None and self.cycle is not None:
            self.awaits = time.monotonic()
        self._doors.head_came(self, size)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["state"][CONNECTION] = self

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        if len(self.headers) >= MOST_HEADERS:
            self._status = 431
            raise ValueError  # ends the parsing; see send_400_response
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, or let it wait for the one before."""
        if len(self.pipeline) >= _MOST_AHEAD:
            self._take_no_more()
            raise ValueError
        self._in_head = False
        self._doors.asks(self)
        self.awaits = None
        super().on_headers_complete()
        self.cycle.scope["state"][CYCLE] = self.cycle
        if not self.pipeline:
            self._answered = self.cycle

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        if self.pipeline:
            self._ahead += len(body)
            if self._ahead > _MOST_AHEAD_BYTES:
                self._take_no_more()
                raise ValueError
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if self.offered:
            return
        super().on_message_complete()
        self._in_head = True

    def on_response_complete(self) -> None:
        """Go on with the next request."""
        self._answered = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if not self.pipeline:
            self._ahead = 0
        if self._answered is None:
            self.awaits = time.monotonic()
            self._doors.rests(self)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request that the gateway takes."""
        del msg
        if self._deaf or self.leaving:
            return
        self._refuse(self._status, no_request(too_large=self._status == 431))

    def known(self) -> None:
        """Learn that the client may come in."""
        self._doors.known(self)
        if not self._known and self.transport is not None:
            self._known = True
            self._kernel_takes(CLIENTS_AHEAD)

    def _kernel_takes(self, size: int) -> None:
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def cut(self) -> None:
        """End the connection at once."""
        self._deaf = True
        self.transport.abort()

    def time_out(self) -> None:
        """End the connection: its request has not come in time."""
        if self.head_bytes:
            self._refuse(408, HEAD_TIMEOUT)
        else:
            self.transport.close()

    def close(self, transport: asyncio.Transport) -> None:
        """Close the transport in order, and not later than in a while."""
        if self._linger is None and not transport.is_closing():
            writing = not self._in_head or self.head_bytes > 0
            self.awaits = None
            self._doors.closing(self)
            self._linger = Linger(transport, writing=writing)
            if self.cycle is not None:
                self.cycle.body = bytearray()  # of a body that nobody reads any more

    def _refuse(self, status: int, answer: bytes) -> None:
        """Answer in place of the application, unless it has begun to, and close the connection."""
        if self.transport.is_closing():
            return
        self.config.refused(status)
        under_way = self._answered
        if under_way is not None and not under_way.response_complete:
            if under_way.response_started or self.pipeline:
                self._take_no_more()
                return
            under_way.disconnected = True
            under_way.message_event.set()
        self.transport.write(answer)
        self.transport.close()
        # What of the head has come would stay as long as the connection does.
        self.headers, self.url = [], b""
        self.parser = self.scope = None  # type: ignore[assignment]

    def _take_no_more(self) -> None:
        """Answer the request whose turn it is, and close: the others were not begun, and may be sent again."""
        self._deaf = True
        self.pipeline.clear()
        if self._answered is not None:
            self._answered.keep_alive = False
