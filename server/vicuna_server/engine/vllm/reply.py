"""One response of vLLM, on a connection of its own; what arrives is handed on in the same moment.

Each token of each answer comes this way. An HTTP library would put a buffer and a task in between, which cost more
than all the parsing.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from functools import cache
from typing import Self
from urllib.parse import urlsplit

import httptools
from pydantic_core import to_json

__all__ = ["Reply"]


class Reply(asyncio.Protocol):
    """The response to one request; leaving the block closes the connection, at which vLLM stops generating."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._head: asyncio.Future[int] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()
        self._take: Callable[[bytes], bool] | None = None
        self._early: list[bytes] = []  # pieces that came before anybody took them

    @classmethod
    async def to(cls, url: str, body: Mapping[str, object], connect_seconds: float) -> Self:
        """Connect and send a POST with JSON.

        Args:
            url: Where to, with scheme and host.
            body: The JSON.
            connect_seconds: How long the connecting may take.

        Raises:
            OSError: There is no connection; where it takes too long, a TimeoutError.
        """
        place, content = urlsplit(url), to_json(body)
        host = place.hostname or ""
        secure = _certificates() if place.scheme == "https" else None
        port = place.port or (443 if secure else 80)
        async with asyncio.timeout(connect_seconds):
            transport, reply = await asyncio.get_running_loop().create_connection(cls, host, port, ssl=secure)
        head = (
            f"POST {place.path} HTTP/1.1\r\nhost: {place.netloc}\r\nconnection: close\r\naccept-encoding: identity\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        transport.write(head.encode() + content)
        return reply

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.abort()
        for waited in (self._head, self._over):
            if not waited.cancel() and not waited.cancelled():
                waited.exception()  # which nobody asks for any more

    async def status(self) -> int:
        """Wait for the head and return the status.

        Raises:
            OSError: The connection is lost, or what came is not HTTP.
        """
        return await self._head

    async def each(self, take: Callable[[bytes], bool]) -> None:
        """Hand on the body's pieces, each in the moment in which it comes.

        Args:
            take: Returns whether nothing more is wanted; what it raises ends the wait.

        Raises:
            OSError: As `status`.
        """
        for piece in self._early:
            if take(piece):
                return
        self._take = take
        await self._over

    async def whole(self) -> bytes:
        """Return the body.

        Raises:
            OSError: As `status`.
        """
        body = bytearray()

        def take(piece: bytes) -> bool:
            body.extend(piece)
            return False

        await self.each(take)
        return bytes(body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; asyncio calls it."""
        self._transport = transport  # type: ignore[assignment]  # a TCP connection can write

    def data_received(self, data: bytes) -> None:
        """Parse what has come; asyncio calls it."""
        if self._over.done():
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionAbortedError(f"the response is not HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End, too early unless the response is complete; asyncio calls it."""
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the connection was closed"))

    def on_headers_complete(self) -> None:
        """Tell the status; the parser calls it."""
        self._head.set_result(self._parser.get_status_code())

    def on_body(self, body: bytes) -> None:
        """Hand on a piece; the parser calls it."""
        if self._take is None:
            self._early.append(body)
        elif not self._over.done():
            try:
                if self._take(body):
                    self._over.set_result(None)
            except Exception as error:  # noqa: BLE001  # raised again for the one who waits
                self._over.set_exception(error)

    def on_message_complete(self) -> None:
        """End in good order; the parser calls it."""
        if not self._over.done():
            self._over.set_result(None)

    def _fail(self, error: OSError) -> None:
        for waited in (self._head, self._over):
            if not waited.done():
                waited.set_exception(error)


@cache
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()
