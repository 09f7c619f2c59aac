"""A connection whose request's head is not complete yet: a `LimitedConnection` with a socket and the bytes received."""

import contextlib
import math
import re
import socket
import time
from collections.abc import Callable

from vicuna_server.asgi.heads import HEAD_BYTES, no_request, refusal
from vicuna_server.asgi.lingering import LINGER_BYTES
from vicuna_server.gateway.connection_limits import ConnectionLimits

__all__ = ["BUSY", "HEAD_TIMEOUT", "PendingConnection"]

BUSY = refusal(503, "the gateway has no room for another connection; try again in 1 s", "overloaded", retry_after=1)
HEAD_TIMEOUT = refusal(408, "the request's head did not arrive in time; send it without pauses", "head_timeout")

_COMMON_HEAD = 4 * 2**10
_DISCARDED = 64 * 2**10
"""Bytes of one read after a refusal; they are discarded."""
_BEGINS = re.compile(rb"[\r\n]*[A-Za-z]")
_FIRST_LINE = re.compile(rb"[\r\n]*[A-Za-z-]+ \S+ HTTP/\d\.\d\r?\n")


class PendingConnection:
    """A connection that the `Acceptor` reads.

    Args:
        number: larger for connections that were accepted later.
        sock: non-blocking.
        address: the client's.
        limits: counts this connection.
        on_refused: called with the status of a refusal.
        on_closing: called once, before the socket is closed.
    """

    __slots__ = (
        "_limits",
        "_linger_bytes",
        "_on_closing",
        "_on_refused",
        "address",
        "closed",
        "complete",
        "head",
        "head_bytes",
        "number",
        "ready",
        "refused_since",
        "sock",
        "waiting_since",
    )

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        address: str,
        limits: ConnectionLimits,
        on_refused: Callable[[int], None],
        on_closing: Callable[["PendingConnection"], None],
    ) -> None:
        self.number = number
        self.ready = False
        """Whether it is known that there is data to read."""
        self.sock = sock
        self.address = address
        self.waiting_since: float | None = time.monotonic()
        self.head_bytes = 0
        self.head = bytearray()
        self.closed = False
        self.complete = False
        """Whether a protocol can take over: the head is complete, or certainly not HTTP."""
        self.refused_since = math.inf
        """When it was refused; what it sends afterwards is discarded."""
        self._linger_bytes = LINGER_BYTES
        self._limits = limits
        self._on_refused = on_refused
        self._on_closing = on_closing

    def read(self) -> bool:
        """Read some of the data that arrived; return whether there may be more."""
        refused = self.refused_since < math.inf
        try:
            data = self.sock.recv(_DISCARDED if refused else self._room())
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if refused:
            self._linger_bytes -= len(data)
        elif data:
            self._received(data)
        if not data or self._linger_bytes < 0:
            self._limits.remove(self)
            self.abort()
        return not self.closed

    def _room(self) -> int:
        """Return how many bytes to read: a common head's size, and for a large head as much again each time."""
        so_far = len(self.head)
        return min(max(_COMMON_HEAD, so_far), HEAD_BYTES + 1 - so_far)

    def _received(self, data: bytes) -> None:
        before = len(self.head)
        self.head += data
        self._limits.add_head_bytes(self, len(data))
        self.complete = _is_complete(self.head, max(0, before - 3)) or _is_not_http(self.head)
        if not self.complete and len(self.head) > HEAD_BYTES:
            self.refuse(431, no_request(too_large=True))

    def refuse(self, status: int, response: bytes) -> None:
        """Send a refusal, and give the client time to read it."""
        self._on_refused(status)
        self._limits.mark_closing(self)
        self.waiting_since = None
        self.refused_since = time.monotonic()
        self.head = bytearray()
        with contextlib.suppress(OSError):
            self.sock.send(response)
            self.sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Close it at once."""
        if not self.closed:
            self.closed = True
            self._on_closing(self)
            self.sock.close()

    def time_out(self) -> None:
        """Close it because its request did not arrive in time."""
        if self.head:
            self.refuse(408, HEAD_TIMEOUT)
        else:
            self._limits.remove(self)
            self.abort()


def _is_complete(head: bytearray, start: int) -> bool:
    """Whether the end of a head has arrived, searched from `start` on."""
    return head.find(b"\n\r\n", start) >= 0 or head.find(b"\n\n", start) >= 0


def _is_not_http(head: bytearray) -> bool:
    """Whether the bytes so far cannot become a request of HTTP."""
    if b"\n" in head.lstrip(b"\r\n"):
        return _FIRST_LINE.match(head) is None
    return bool(head.strip(b"\r\n")) and _BEGINS.match(head) is None
