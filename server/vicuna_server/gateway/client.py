"""The client of one request: sends it a response, and gives up where it does not read."""

import asyncio
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Message, Send

from vicuna_server.gateway.first_event import error_event
from vicuna_server.gateway.response_head import ResponseHead

__all__ = ["Client", "ClientNotReadingError"]

_PIECE_BYTES = 64 * 2**10
"""Bytes that are sent at once. After each piece the transport may say that the client does not keep up."""


_STREAM_HEAD = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
_WAITING = b": waiting for a server of this model\n\n"


class ClientNotReadingError(Exception):
    """The client has not read for `patience` seconds."""


class Client:
    """Sends one response.

    Args:
        send: of ASGI.
        patience: seconds that a client may take to read a piece.
        on_start: called with the status before the head is sent.

    Attributes:
        started: whether a response has begun: a server's, or one of the gateway's own.
        streams: whether it is an event stream.
        waits: whether the head of an event stream was sent before a response has begun.
    """

    def __init__(self, send: Send, patience: float, on_start: Callable[[int], None]) -> None:
        self._send = send
        self._patience = patience
        self._on_start = on_start
        self.started = False
        self.streams = False
        self.waits = False

    async def keep_waiting(self) -> None:
        """Send a comment to a client that waits for a stream; the first time with the head of a stream.

        Raises:
            ClientNotReadingError: it does not read.
        """
        if not self.waits:
            self.waits = self.streams = True
            await self._in_time({"type": "http.response.start", "status": 200, "headers": list(_STREAM_HEAD)})
        await self._body(_WAITING, more=True)

    async def start(self, head: ResponseHead, length: int | None = None) -> None:
        """Send a server's head; without a length the body ends with the last piece.

        Raises:
            ClientNotReadingError: it does not read.
        """
        self.streams = head.is_stream
        size = () if length is None else ((b"content-length", b"%d" % length),)
        await self._start(head.status, [*head.headers, *size])

    async def write(self, data: bytes | bytearray, *, more: bool = True) -> None:
        """Send a part of the body; the last one without `more`.

        Raises:
            ClientNotReadingError: it does not read.
        """
        start = 0
        while len(data) - start > _PIECE_BYTES:
            await self._body(bytes(data[start : start + _PIECE_BYTES]), more=True)
            start += _PIECE_BYTES
        await self._body(bytes(data[start:]), more=more)

    async def respond(self, response: Response) -> None:
        """Send a response of the gateway's own; where the head of a stream was sent, its body is an event.

        Raises:
            ClientNotReadingError: it does not read.
        """
        await self._start(response.status_code, response.raw_headers)
        await self.write(error_event(response) if self.waits else bytes(response.body), more=False)

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        self._on_start(status)
        if self.waits:
            return
        await self._in_time({"type": "http.response.start", "status": status, "headers": headers})

    async def _body(self, data: bytes, *, more: bool) -> None:
        await self._in_time({"type": "http.response.body", "body": data, "more_body": more})

    async def _in_time(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._patience):  # else it could hold its request for ever
                await self._send(message)
        except TimeoutError:
            raise ClientNotReadingError from None
