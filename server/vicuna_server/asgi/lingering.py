"""Closing a connection whose client may still be writing.

To close it at once would reset the connection when more bytes arrive. With a reset, the client loses a response that
it has not read yet. So our half is closed, arriving bytes are discarded, and after a while the rest is closed.
"""

import asyncio

__all__ = ["LINGER_BYTES", "LINGER_SECONDS", "Linger"]

LINGER_BYTES = 16 * 2**20
"""Bytes that are discarded at most: a few times the largest body that is accepted."""

LINGER_SECONDS = 5.0
"""How long a client may still write, or not read, before the connection is aborted."""


class Linger:
    """The lingering close of one connection.

    Args:
        transport: Closed once all that was written has been sent.
        writing: Whether the client may still send bytes.
        seconds: How long the close may take.
    """

    def __init__(self, transport: asyncio.Transport, *, writing: bool, seconds: float = LINGER_SECONDS) -> None:
        self._transport = transport
        self._left = LINGER_BYTES
        self._timer = asyncio.get_running_loop().call_later(seconds, transport.abort)
        if writing and not transport.is_closing():
            transport.resume_reading()
            transport.write_eof()
        else:
            transport.close()

    def drop(self, size: int) -> None:
        """Count arrived bytes that are discarded; too many abort the connection."""
        self._left -= size
        if self._left < 0:
            self._transport.abort()

    def over(self) -> None:
        """Stop the timer, once the connection is gone."""
        self._timer.cancel()
