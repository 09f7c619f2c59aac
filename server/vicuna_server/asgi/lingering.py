"""Closing a connection whose client may still be writing.

To close it outright would answer what is still on its way with a reset, and a reset takes the answer along that the
client has not read yet. So our half is closed, what comes is thrown away, and after a while that ends as well.
"""

import asyncio

__all__ = ["LINGER_BYTES", "LINGER_SECONDS", "Linger"]

LINGER_BYTES = 16 * 2**20
"""What is thrown away at most: bodies a few times larger than are taken."""

LINGER_SECONDS = 5.0
"""How long a closed connection may still be there, its client writing or not reading."""


class Linger:
    """One connection's last seconds.

    Args:
        transport: to be closed when what was written has been sent.
        writing: the client may still send something.
        seconds: how long this may take.
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
        """Throw away so many bytes that came."""
        self._left -= size
        if self._left < 0:
            self._transport.abort()

    def over(self) -> None:
        """Learn that the connection is gone."""
        self._timer.cancel()
