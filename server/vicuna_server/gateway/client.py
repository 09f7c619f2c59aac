"""The way back to the client of one request: how far its answer is, and no waiting for one that does not read."""

import asyncio
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Message, Send

from vicuna_server.gateway.answer_head import AnswerHead

__all__ = ["Client", "ClientStuckError"]

_PIECE_BYTES = 64 * 2**10
"""What is handed over at once. Behind each piece the transport may say that the client does not keep up."""


class ClientStuckError(Exception):
    """The client has not read for too long."""


class Client:
    """Sends one answer.

    Args:
        send: of ASGI.
        patience: seconds after which a client that does not read is left.
        begun: told the status before the head goes out.

    Attributes:
        started: the head has been sent.
        streams: it was the head of a stream of events.
    """

    def __init__(self, send: Send, patience: float, begun: Callable[[int], None]) -> None:
        self._send = send
        self._patience = patience
        self._begun = begun
        self.started = False
        self.streams = False

    async def start(self, head: AnswerHead, length: int | None = None) -> None:
        """Send a server's head; without a length the body ends where the last piece does.

        Raises:
            ClientStuckError: it does not read.
        """
        self.streams = head.is_stream
        size = () if length is None else ((b"content-length", b"%d" % length),)
        await self._start(head.status, [*head.headers, *size])

    async def write(self, data: bytes | bytearray, *, more: bool = True) -> None:
        """Send a part of the body, the last one where there is no `more`.

        Raises:
            ClientStuckError: it does not read.
        """
        start = 0
        while len(data) - start > _PIECE_BYTES:
            await self._body(bytes(data[start : start + _PIECE_BYTES]), more=True)
            start += _PIECE_BYTES
        await self._body(bytes(data[start:]), more=more)

    async def answer(self, response: Response) -> None:
        """Send an answer of the gateway's own.

        Raises:
            ClientStuckError: it does not read.
        """
        await self._start(response.status_code, response.raw_headers)
        await self.write(bytes(response.body), more=False)

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        self._begun(status)
        await self._in_time({"type": "http.response.start", "status": status, "headers": headers})

    async def _body(self, data: bytes, *, more: bool) -> None:
        await self._in_time({"type": "http.response.body", "body": data, "more_body": more})

    async def _in_time(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._patience):  # a client that does not read holds nothing for ever
                await self._send(message)
        except TimeoutError:
            raise ClientStuckError from None
