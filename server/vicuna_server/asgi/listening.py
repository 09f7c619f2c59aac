"""Binds the port, before anything slow happens."""

import errno
import socket

from vicuna_server.errors import UsageError

__all__ = ["bind"]


def bind(host: str, port: int, flag: str = "--port") -> socket.socket:
    """Return a listening socket.

    Args:
        host: address to listen on.
        port: 0: any free one.
        flag: what states the port, for messages.

    Raises:
        UsageError: `PortInUse`, or an address that cannot be listened on.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} on {host} is in use; stop what listens there or choose another with {flag}",
                reason="PortInUse",
            ) from error
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose others with --host and {flag}",
            reason="AddressUnusable",
        ) from error
    # asyncio sets it only where the socket's protocol is named, and `create_server` names none. Without it the body of
    # a response waits for the client's delayed acknowledgement of the head: 40 ms. Accepted connections inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _detect_lost_clients(listener)
    return listener


def _detect_lost_clients(listener: socket.socket) -> None:
    """Have the kernel probe clients that are silent for a minute; accepted connections inherit it."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
