"""A transport that the connection closes in its own way."""

import asyncio
from collections.abc import Callable

__all__ = ["DelegatedTransport"]


class DelegatedTransport:
    """Delegates `close` and `is_closing` to callables; everything else is the transport's.

    Args:
        transport: sends and receives.
        close: called in place of the transport's.
        is_closing: whether the connection is closed, though the transport may still be open.
    """

    def __init__(
        self, transport: asyncio.Transport, close: Callable[[asyncio.Transport], None], is_closing: Callable[[], bool]
    ) -> None:
        self._transport = transport
        self._close = close
        self._is_closing = is_closing
        self.write = transport.write
        self.abort = transport.abort
        self.write_eof = transport.write_eof
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._is_closing() or self._transport.is_closing()

    def close(self) -> None:
        """Close it as the connection does."""
        self._close(self._transport)
