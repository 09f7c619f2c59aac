"""The limits of a request's head, and the responses to heads that are too large or not HTTP. Also for h11."""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from vicuna_server.asgi.closing import ClosesWhenQuiet
from vicuna_server.asgi.errors import error_response
from vicuna_server.asgi.lingering import Linger
from vicuna_server.errors import RequestError
from vicuna_server.protocol.errors import error_body

__all__ = ["HEAD_BYTES", "HEAD_TOO_LARGE", "MOST_HEADERS", "BoundedH11", "HeaderLimit", "no_request", "refusal"]

HEAD_BYTES = 64 * 2**10
"""Bytes of the request line and all headers together; counted while they arrive."""

MOST_HEADERS = 128
"""Number of headers."""

HEAD_TOO_LARGE = (
    f"the request's URL and headers have more than {HEAD_BYTES} bytes, or more than {MOST_HEADERS} headers; send fewer"
)


def refusal(status: int, message: str, code: str, *, retry_after: int | None = None) -> bytes:
    """Return the bytes of a response with OpenAI's error object; it says that the connection is closed afterwards."""
    body = json.dumps(error_body(status, message, code=code)).encode()
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "content-type: application/json"]
    lines += [f"content-length: {len(body)}", "connection: close"]
    lines += [f"retry-after: {retry_after}"] if retry_after is not None else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def no_request(*, too_large: bool) -> bytes:
    """Return the response to bytes that are not a request: the head is too large, or it is not HTTP."""
    if too_large:
        return refusal(431, HEAD_TOO_LARGE, "head_too_large")
    return refusal(
        400, "the request is not valid HTTP/1.1; check the client, and that it does not use TLS here", "invalid_http"
    )


class BoundedH11(ClosesWhenQuiet, H11Protocol):
    """Uvicorn's protocol over h11, which by itself bounds only heads that arrive in several reads."""

    _linger: Linger | None = None

    def data_received(self, data: bytes) -> None:
        """Parse the bytes, as long as the head is within its limits."""
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
        """Refuse bytes that are not a request which this server accepts."""
        del msg
        if self._linger is not None or self.transport.is_closing():
            return
        too_large = self._awaits_head() and self._head_so_far() > HEAD_BYTES
        self._linger = _refuse(self.transport, no_request(too_large=too_large), self._interrupt)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what belongs to the connection."""
        if self._linger is not None:
            self._linger.over()
        super().connection_lost(exc)

    def _awaits_head(self) -> bool:
        return self.conn.their_state in (h11.IDLE, h11.ERROR)

    def _head_so_far(self) -> int:
        return len(self.conn.trailing_data[0])

    def _interrupt(self) -> bool:
        """End the running request; return whether its response has begun."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        cycle.disconnected = True
        cycle.message_event.set()
        return cycle.response_started


class HeaderLimit:
    """Pure ASGI: refuses a request with too many headers, which h11 does not count."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and len(scope["headers"]) > MOST_HEADERS:
            error = RequestError(HEAD_TOO_LARGE, status=431, code="head_too_large")
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _refuse(transport: asyncio.Transport, response: bytes, interrupt: Callable[[], bool]) -> Linger:
    """Write an error response, unless another response has begun, and close the connection."""
    if not interrupt():
        transport.write(response)
    return Linger(transport, writing=True)
