"""Sends responses no faster than their clients read, and in a form that the client's version of HTTP has. Pure ASGI.

Uvicorn's cycle of the request is in the ASGI state. Without one (under another server) messages are not changed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from vicuna_server.gateway.connection import CONNECTION, CYCLE, WRITE_BUFFER, Connection

__all__ = ["Delivery"]


class Delivery:
    """Wraps the whole application.

    Args:
        app: whose responses are sent.
        patience: seconds that a client may take to read a piece; then its connection is closed.
        for_anybody: paths of large responses that need no key. Of all these requests one sends a piece at a time, and
            other work runs between two pieces.
    """

    def __init__(self, app: ASGIApp, patience: float, for_anybody: Collection[str] = ()) -> None:
        self._app = app
        self._patience = patience
        self._for_anybody = frozenset(for_anybody)
        self._turns = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request."""
        cycle = scope.get("state", {}).get(CYCLE)
        if scope["type"] != "http" or cycle is None:
            await self._app(scope, receive, send)
            return
        old = scope["http_version"] == "1.0"
        turns = self._turns if scope["path"] in self._for_anybody else None
        sending = _Sending(scope["state"][CONNECTION], cycle, send, self._patience, turns, old=old)
        await sending.turn()
        try:
            await self._app(scope, receive, sending.send)
        finally:
            scope["state"].clear()  # breaks a reference cycle: see `Connection.connection_lost`


class _Sending:
    """One response."""

    def __init__(
        self,
        connection: Connection,
        cycle: RequestResponseCycle,
        send: Send,
        patience: float,
        turns: asyncio.Lock | None,
        *,
        old: bool,
    ) -> None:
        self._connection = connection
        self._cycle = cycle
        self._send = send
        self._patience = patience
        self._turns = turns
        self._old = old
        self._open_ended = False
        self._frames = False

    async def turn(self) -> None:
        """Wait until it may send a piece, on paths for anybody."""
        if self._turns is not None:
            async with self._turns:
                await asyncio.sleep(0)

    async def send(self, message: Message) -> None:
        """Send one message."""
        if message["type"] == "http.response.start":
            self._start(message)
            await self._in_time(partial(self._send, message))
            return
        body = message.get("body", b"")
        if len(body) <= WRITE_BUFFER or self._frames:  # an event is sent in one piece
            await self._piece(message)
            return
        for start in range(0, len(body), WRITE_BUFFER):
            end = start + WRITE_BUFFER
            more = message.get("more_body", False) or end < len(body)
            await self._in_time(self._cycle.flow.drain)
            await self.turn()
            await self._piece({"type": message["type"], "body": body[start:end], "more_body": more})

    def _start(self, message: Message) -> None:
        headers = MutableHeaders(raw=list(message.get("headers", ())))
        headers.setdefault("x-content-type-options", "nosniff")  # an error may quote text of the request
        message["headers"] = headers.raw
        self._frames = headers.get("content-type", "").startswith("text/event-stream")
        # The request is not complete, and nobody will read the rest of it.
        if self._cycle.more_body or not self._connection.may_keep_alive:
            self._cycle.keep_alive = False
        if self._old and "content-length" not in headers:
            # HTTP/1.0 has no chunks: the response ends where the connection does.
            self._open_ended = True
            self._cycle.chunked_encoding = False

    async def _piece(self, message: Message) -> None:
        if self._open_ended:
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._in_time(partial(self._send, message))

    async def _in_time(self, work: Callable[[], Awaitable[None]]) -> None:
        if not self._cycle.flow.write_paused:
            await work()
            return
        try:
            async with asyncio.timeout(self._patience):
                await work()
        except TimeoutError:
            self._cycle.transport.abort()
