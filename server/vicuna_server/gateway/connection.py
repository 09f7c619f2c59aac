"""One connection of the gateway: uvicorn's protocol over httptools, with limits where that has none.

Limited are the head of a request, pipelined requests, and the time that a closed connection lingers. `ConnectionLimits`
limits the number of connections. A response that begins before its request is complete closes the connection, since
nobody will read the rest.
"""

import asyncio
import contextlib
import socket
import time
from typing import cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from vicuna_server.asgi.heads import HEAD_BYTES, MOST_HEADERS, no_request
from vicuna_server.asgi.lingering import Linger
from vicuna_server.gateway.pending_connection import BUSY, HEAD_TIMEOUT
from vicuna_server.gateway.plain_http import PlainHttp
from vicuna_server.gateway.port_config import PortConfig
from vicuna_server.gateway.transport import DelegatedTransport

__all__ = ["CONNECTION", "CYCLE", "Connection"]

CONNECTION, CYCLE = "connection", "cycle"
"""Names in a request's ASGI state: its connection, and uvicorn's cycle of request and response."""

WRITE_BUFFER = 16 * 2**10
"""Bytes of a response that are buffered for a client that does not read, before the sender waits."""

UNAUTHENTICATED_SEND_BUFFER, CLIENT_SEND_BUFFER = 32 * 2**10, 2**20
"""Bytes that the kernel buffers for a client that does not read, before and after its first key.

Both are capped by `net.core.wmem_max`. By default the kernel takes megabytes for each, which count as the container's
memory.
"""

_MOST_AHEAD = 8
_MOST_AHEAD_BYTES = 16 * 2**10


class Connection(PlainHttp):
    """A `LimitedConnection`; see the module."""

    config: PortConfig

    def __init__(self, *args: object, received: bytes = b"", **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._received = received  # by the acceptor
        self.address = ""
        self.waiting_since: float | None = time.monotonic()
        self.head_bytes = 0
        self._limits = self.config.limits
        self._authenticated = False
        self._linger: Linger | None = None
        self._in_head = True
        self._ignores_input = False
        self._status = 400
        self._current: RequestResponseCycle | None = None  # the request that is answered now
        self._ahead = 0  # bytes of the bodies of pipelined requests

    @property
    def is_closing(self) -> bool:
        """Whether it is closed for the application, though it may still linger."""
        return self._linger is not None

    @property
    def may_keep_alive(self) -> bool:
        """Whether it may send another request; without a valid key each request needs a new connection."""
        return self._authenticated or self.config.has_valid_key(b"")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and parse what the acceptor has received."""
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        super().connection_made(
            cast(asyncio.Transport, DelegatedTransport(transport, self.close, lambda: self.is_closing))
        )
        self.address = self.client[0] if self.client else ""
        self._set_send_buffer(UNAUTHENTICATED_SEND_BUFFER)
        if not self._limits.admit(self):
            self._refuse(503, BUSY)
        elif self._received:
            received, self._received = self._received, b""
            self.data_received(received)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection, and end its requests."""
        self._limits.remove(self)
        if self._linger is not None:
            self._linger.over()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        for cycle, _ in self.pipeline:
            cycle.disconnected = True
        if self._current is not None and not self._current.response_complete:
            self._current.disconnected = True
            self._current.message_event.set()
        # References in a cycle live until the garbage collector runs, which delays all requests.
        self.pipeline.clear()
        self.cycle = self.scope = self.transport = self.flow = self._current = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse, as long as the head is within its limits."""
        rest = memoryview(data)
        while rest and not self._ignores_input and not self.is_closing:
            room = HEAD_BYTES + 1 - self.head_bytes if self._in_head else HEAD_BYTES
            piece, rest = rest[:room], rest[room:]
            if self._in_head:
                self._add_head_bytes(len(piece))
            super().data_received(cast(bytes, piece))
            if self._in_head and self.head_bytes > HEAD_BYTES:
                self._status = 431
                self.send_400_response("")
        if self._linger is not None:
            self._linger.drop(len(rest))

    def _add_head_bytes(self, size: int) -> None:
        if not self.head_bytes and self.waiting_since is not None and self.cycle is not None:
            self.waiting_since = time.monotonic()
        self._limits.add_head_bytes(self, size)

    def on_message_begin(self) -> None:
        """Start a request."""
        super().on_message_begin()
        self.scope["state"][CONNECTION] = self

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add one header."""
        if len(self.headers) >= MOST_HEADERS:
            self._status = 431
            raise ValueError  # ends the parsing; see send_400_response
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Run the request, or queue it behind the one before."""
        if len(self.pipeline) >= _MOST_AHEAD:
            self._finish_current()
            raise ValueError
        self._in_head = False
        self._limits.mark_busy(self)
        self.waiting_since = None
        super().on_headers_complete()
        self.cycle.scope["state"][CYCLE] = self.cycle
        if not self.pipeline:
            self._current = self.cycle

    def on_body(self, body: bytes) -> None:
        """Add a part of a body."""
        if self.pipeline:
            self._ahead += len(body)
            if self._ahead > _MOST_AHEAD_BYTES:
                self._finish_current()
                raise ValueError
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if self.offered:
            return
        super().on_message_complete()
        self._in_head = True

    def on_response_complete(self) -> None:
        """Continue with the next request."""
        self._current = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if not self.pipeline:
            self._ahead = 0
        if self._current is None:
            self.waiting_since = time.monotonic()
            self._limits.mark_idle(self)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not a request that the gateway accepts."""
        del msg
        if self._ignores_input or self.is_closing:
            return
        self._refuse(self._status, no_request(too_large=self._status == 431))

    def mark_authenticated(self) -> None:
        """Mark the client as one that has shown a valid key."""
        self._limits.mark_authenticated(self)
        if not self._authenticated and self.transport is not None:
            self._authenticated = True
            self._set_send_buffer(CLIENT_SEND_BUFFER)

    def _set_send_buffer(self, size: int) -> None:
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def abort(self) -> None:
        """Close the connection at once."""
        self._ignores_input = True
        self.transport.abort()

    def time_out(self) -> None:
        """Close the connection because its request did not arrive in time."""
        if self.head_bytes:
            self._refuse(408, HEAD_TIMEOUT)
        else:
            self.transport.close()

    def close(self, transport: asyncio.Transport) -> None:
        """Close the transport after it has lingered."""
        if self._linger is None and not transport.is_closing():
            writing = not self._in_head or self.head_bytes > 0
            self.waiting_since = None
            self._limits.mark_closing(self)
            self._linger = Linger(transport, writing=writing)
            if self.cycle is not None:
                self.cycle.body = bytearray()  # nobody reads the body any more

    def _refuse(self, status: int, response: bytes) -> None:
        """Send a refusal, unless the application has begun its response, and close the connection."""
        if self.transport.is_closing():
            return
        self.config.on_refused(status)
        under_way = self._current
        if under_way is not None and not under_way.response_complete:
            if under_way.response_started or self.pipeline:
                self._finish_current()
                return
            under_way.disconnected = True
            under_way.message_event.set()
        self.transport.write(response)
        self.transport.close()
        # Frees the memory of the head while the connection lingers.
        self.headers, self.url = [], b""
        self.parser = self.scope = None  # type: ignore[assignment]

    def _finish_current(self) -> None:
        """Finish the current response, then close: the others were not started, and can be sent again."""
        self._ignores_input = True
        self.pipeline.clear()
        if self._current is not None:
            self._current.keep_alive = False
