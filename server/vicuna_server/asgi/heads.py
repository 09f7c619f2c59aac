"""How much of a request's head is taken, and how a request is refused before there is one. For h11 as well."""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from vicuna_server.asgi.errors import error_response
from vicuna_server.asgi.lingering import Linger
from vicuna_server.errors import RequestError
from vicuna_server.protocol.errors import error_body

__all__ = ["HEAD_BYTES", "HEAD_TOO_LARGE", "MOST_HEADERS", "BoundedH11", "HeaderLimit", "no_request", "refusal"]

HEAD_BYTES = 64 * 2**10
"""The request line and all headers together; counted while they arrive."""

MOST_HEADERS = 128
"""Lines of a head behind the request line."""

HEAD_TOO_LARGE = f"the request's URL and headers are more than {HEAD_BYTES} bytes or {MOST_HEADERS} headers"


def refusal(status: int, message: str, code: str, *, retry_after: int | None = None) -> bytes:
    """Return a whole answer, OpenAI's error object in it, after which the connection is closed."""
    body = json.dumps(error_body(status, message, code=code)).encode()
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "content-type: application/json"]
    lines += [f"content-length: {len(body)}", "connection: close"]
    lines += [f"retry-after: {retry_after}"] if retry_after is not None else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def no_request(*, too_large: bool) -> bytes:
    """Return the answer to what never became a request: its head is too large, or it is no HTTP."""
    if too_large:
        return refusal(431, HEAD_TOO_LARGE, "head_too_large")
    return refusal(400, "the request is not valid HTTP", "invalid_http")


class BoundedH11(H11Protocol):
    """Uvicorn's protocol over h11, which by itself bounds only heads that arrive in several pieces."""

    _linger: Linger | None = None

    def data_received(self, data: bytes) -> None:
        """Read on, as long as the head is within its bounds."""
        if self._linger is not None:
            self._linger.drop(len(data))
            return
        while data and self._linger is None and not self.transport.is_closing():
            room = HEAD_BYTES - self._head_so_far() if self._awaits_head() else len(data)
            super().data_received(data[: room + 1])
            data = data[room + 1 :]
            if self._awaits_head() and self._head_so_far() > HEAD_BYTES:
                self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request that this server takes."""
        del msg
        if self._linger is not None or self.transport.is_closing():
            return
        too_large = self._awaits_head() and self._head_so_far() > HEAD_BYTES
        self._linger = _refuse(self.transport, no_request(too_large=too_large), self._interrupt)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._linger is not None:
            self._linger.over()
        super().connection_lost(exc)

    def _awaits_head(self) -> bool:
        return self.conn.their_state in (h11.IDLE, h11.ERROR)

    def _head_so_far(self) -> int:
        return len(self.conn.trailing_data[0])

    def _interrupt(self) -> bool:
        """End the request under way; return whether its answer has begun."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        cycle.disconnected = True
        cycle.message_event.set()
        return cycle.response_started


class HeaderLimit:
    """Pure ASGI: refuses a request of more headers than are taken; h11 does not count them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and len(scope["headers"]) > MOST_HEADERS:
            error = RequestError(HEAD_TOO_LARGE, status=431, code="head_too_large")
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _refuse(transport: asyncio.Transport, answer: bytes, interrupt: Callable[[], bool]) -> Linger:
    """Write a refusal, unless an answer has begun, and close the connection."""
    if not interrupt():
        transport.write(answer)
    return Linger(transport, writing=True)
