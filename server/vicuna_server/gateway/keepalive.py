"""Sockets whose connection ends once the other machine does not answer, as when it has lost its power or its network.

Nothing is sent while a whole response is computed, so nothing else would tell. The kernel of the other machine answers
these probes, not its server, however long that computes.
"""

import socket
from typing import Final

from aiohttp import AddrInfoType

__all__ = ["UNANSWERED_SECONDS", "open_socket"]

UNANSWERED_SECONDS: Final = 30
"""The other machine is given up after so long without an answer: to probes, or to what was sent."""
_IDLE_SECONDS = 10
_INTERVAL_SECONDS = 5


def open_socket(address: AddrInfoType) -> socket.socket:
    """Return a new socket for a TCP connection to an address, as `aiohttp.TCPConnector` wants it."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _IDLE_SECONDS),
        ("TCP_KEEPINTVL", _INTERVAL_SECONDS),
        ("TCP_KEEPCNT", (UNANSWERED_SECONDS - _IDLE_SECONDS) // _INTERVAL_SECONDS),
        ("TCP_USER_TIMEOUT", UNANSWERED_SECONDS * 1000),
    ):
        option: int | None = getattr(socket, name, None)  # other systems than Linux lack some
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made
