"""A connection that has not asked yet: a `Door` that is little more than its socket."""

import contextlib
import math
import re
import socket
import time
from collections.abc import Callable

from vicuna_server.asgi.heads import HEAD_BYTES, no_request, refusal
from vicuna_server.asgi.lingering import LINGER_BYTES
from vicuna_server.gateway.doors import Doors

__all__ = ["BUSY", "HEAD_TIMEOUT", "Visitor"]

BUSY = refusal(503, "the gateway has as many connections as it takes; try again", "overloaded", retry_after=1)
HEAD_TIMEOUT = refusal(408, "the request's head did not arrive in time", "head_timeout")

_COMMON_HEAD = 4 * 2**10
_THROWN_AWAY = 64 * 2**10
"""Bytes of one read whose content does not matter."""
_BEGINS = re.compile(rb"[\r\n]*[A-Za-z]")
_FIRST_LINE = re.compile(rb"[\r\n]*[A-Za-z-]+ \S+ HTTP/\d\.\d\r?\n")


class Visitor:
    """See the module.

    Args:
        number: the later it came, the larger.
        sock: does not block.
        address: the client's.
        doors: told of what comes.
        refused: told the status of a refusal.
        forget: called once, before the socket is closed.
    """

    __slots__ = (
        "_doors",
        "_forget",
        "_more",
        "_refused",
        "address",
        "awaits",
        "gone",
        "head",
        "head_bytes",
        "left_since",
        "number",
        "ready",
        "sock",
        "whole",
    )

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        address: str,
        doors: Doors,
        refused: Callable[[int], None],
        forget: Callable[["Visitor"], None],
    ) -> None:
        self.number = number
        self.ready = False
        """Whether it is known that something has come."""
        self.sock = sock
        self.address = address
        self.awaits: float | None = time.monotonic()
        self.head_bytes = 0
        self.head = bytearray()
        self.gone = False
        self.whole = False
        """Whether a request can be made of what has come, or the protocol's own refusal."""
        self.left_since = math.inf
        """When it was refused; what it sends then is thrown away."""
        self._more = LINGER_BYTES
        self._doors = doors
        self._refused = refused
        self._forget = forget

    def read(self) -> bool:
        """Take some of what has come; return whether there may be more."""
        leaving = self.left_since < math.inf
        try:
            data = self.sock.recv(_THROWN_AWAY if leaving else self._room())
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if leaving:
            self._more -= len(data)
        elif data:
            self._came(data)
        if not data or self._more < 0:
            self._doors.leave(self)
            self.cut()
        return not self.gone

    def _room(self) -> int:
        """Return how much is read at once: a common head's size, and of a large one each time as much again."""
        so_far = len(self.head)
        return min(max(_COMMON_HEAD, so_far), HEAD_BYTES + 1 - so_far)

    def _came(self, data: bytes) -> None:
        before = len(self.head)
        self.head += data
        self._doors.head_came(self, len(data))
        self.whole = _whole(self.head, max(0, before - 3)) or _no_http(self.head)
        if not self.whole and len(self.head) > HEAD_BYTES:
            self.refuse(431, no_request(too_large=True))

    def refuse(self, status: int, answer: bytes) -> None:
        """Answer, and wait for the client to read that."""
        self._refused(status)
        self._doors.closing(self)
        self.awaits = None
        self.left_since = time.monotonic()
        self.head = bytearray()
        with contextlib.suppress(OSError):
            self.sock.send(answer)
            self.sock.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End it at once."""
        if not self.gone:
            self.gone = True
            self._forget(self)
            self.sock.close()

    def time_out(self) -> None:
        """End it: its request has not come in time."""
        if self.head:
            self.refuse(408, HEAD_TIMEOUT)
        else:
            self._doors.leave(self)
            self.cut()


def _whole(head: bytearray, start: int) -> bool:
    """Whether a head's last line may be there."""
    return head.find(b"\n\r\n", start) >= 0 or head.find(b"\n\n", start) >= 0


def _no_http(head: bytearray) -> bool:
    """Whether it is seen already that this will be no request."""
    if b"\n" in head.lstrip(b"\r\n"):
        return _FIRST_LINE.match(head) is None
    return bool(head.strip(b"\r\n")) and _BEGINS.match(head) is None
