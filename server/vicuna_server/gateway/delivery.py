"""How an answer leaves the gateway: no faster than its client reads, and as its client's HTTP can read it. Pure ASGI.

Uvicorn's cycle of the request is in the ASGI state; without one (another server) all messages pass as they are.
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
        app: whose answers are sent.
        patience: seconds that a client may let a piece of an answer wait; then its connection is cut.
        for_anybody: paths of large answers without a key: of all these requests one takes a step at a time, and
            whatever else there is to do comes between two.
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
            scope["state"].clear()  # the cycle has the scope, and the scope it: see `Connection.connection_lost`


class _Sending:
    """One answer."""

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
        """Wait for a turn, where turns are taken."""
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
        if len(body) <= WRITE_BUFFER or self._frames:  # an event is not cut in two
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
        headers.setdefault("x-content-type-options", "nosniff")  # an error may quote what a client asked for
        message["headers"] = headers.raw
        self._frames = headers.get("content-type", "").startswith("text/event-stream")
        # A request that is not whole: nobody will read the rest of it.
        if self._cycle.more_body or not self._connection.may_keep_alive:
            self._cycle.keep_alive = False
        if self._old and "content-length" not in headers:
            # HTTP/1.0 knows no chunks: the end of the connection is that of the answer.
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
