"""Revocation: the requests of a key that is revoked or has expired end within a second. Pure ASGI.

The application sees a disconnected client. The client gets its response from here: a stream ends with an error event,
as when its server is lost, and a response that has not begun is a 401.
"""

import asyncio
import logging
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vicuna_server.asgi.errors import error_response
from vicuna_server.asgi.sse import frame
from vicuna_server.errors import RequestError
from vicuna_server.gateway.keys import Key
from vicuna_server.protocol.errors import error_body

__all__ = ["Revocation"]

logger = logging.getLogger(__name__)


class Revocation:
    """Knows the requests under way of every key. Behind `Authentication`, which puts the key into the ASGI state."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._running: dict[Key, set[_Running]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request."""
        key: Key | None = scope.get("state", {}).get("key")
        if key is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        running = _Running(receive, send)
        self._running.setdefault(key, set()).add(running)
        try:
            await self._app(scope, running.receive, running.send)
        finally:
            running.end()
            self._running[key].discard(running)
            if not self._running[key]:
                del self._running[key]
        if running.revoked:
            await running.send_error(scope, key)

    def look(self, is_valid: Callable[[Key], bool]) -> None:
        """End the requests of keys that are not valid any more."""
        for key in [key for key in self._running if not is_valid(key)]:
            ended = [running for running in self._running[key] if running.revoke()]
            if ended:
                logger.info("the key %s was revoked or has expired: %d of its requests are ended", key.name, len(ended))


class _Running:
    """One request, and how far its response is."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._body_read = False  # whether the request's body has been read
        self._started = False
        self._frames = False
        self._done = False

    @property
    def revoked(self) -> bool:
        return self._over.done() and not self._over.cancelled()

    def revoke(self) -> bool:
        if self._over.done():
            return False
        self._over.set_result(None)
        return True

    def end(self) -> None:
        if not self._over.done():
            self._over.cancel()

    async def receive(self) -> Message:
        if self.revoked:
            return {"type": "http.disconnect"}
        if not self._body_read:
            message = await self._receive()
            self._body_read = not message.get("more_body", False)
            return message
        coming = asyncio.ensure_future(self._receive())
        try:
            await asyncio.wait((coming, self._over), return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else {"type": "http.disconnect"}
        finally:
            coming.cancel()

    async def send(self, message: Message) -> None:
        if self.revoked:
            return
        if message["type"] == "http.response.start":
            self._started = True
            self._frames = Headers(raw=list(message["headers"])).get("content-type", "").startswith("text/event-stream")
        elif not message.get("more_body", False):
            self._done = True
        await self._send(message)

    async def send_error(self, scope: Scope, key: Key) -> None:
        """Send the reason to the client; a response that has begun and is not a stream is cut off."""
        if self._done:
            return
        error = RequestError(
            f"the API key {key.name} was revoked or has expired; ask for a new one", status=401, code="invalid_api_key"
        )
        if not self._started:
            await error_response(error)(scope, self._receive, self._send)
        elif self._frames:
            body = frame(error_body(error.status, error.message, code=error.code))
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
