"""What every response carries: revision, request id, and `Connection: close` while draining. Pure ASGI."""

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vicuna_server.http.lifecycle import Lifecycle
from vicuna_server.http.metrics import Metrics

__all__ = ["CommonHeaders"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class CommonHeaders:
    """Wraps the whole application, its error responses included.

    A client's own `x-request-id` is kept when it is harmless, else one is made. The id is in the ASGI state as
    `request_id`.
    """

    def __init__(self, app: ASGIApp, revision: str, lifecycle: Lifecycle, metrics: Metrics) -> None:
        self._app = app
        self._revision = revision
        self._lifecycle = lifecycle
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-vicuna-revision"] = self._revision
                headers["x-request-id"] = request_id
                if self._lifecycle.draining:
                    headers["connection"] = "close"
                self._metrics.answered(_route(scope), message["status"])
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _route(scope: Scope) -> str:
    """Return the route's pattern, never the raw path: a scanner must not fill the metrics with its inventions."""
    route = scope.get("route")
    return getattr(route, "path", "other")
