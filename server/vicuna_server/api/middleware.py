"""The headers of every response (revision, request id), and its line in the log.

Pure ASGI: streams pass through untouched.
"""

import json
import logging
import time
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vicuna_contract.names import COUNTS_PATH, ENGINE_PATH, REVISION_HEADER
from vicuna_server.api.metrics import Metrics
from vicuna_server.asgi.access_log import ACCESS_LOG
from vicuna_server.asgi.request_id import request_id

__all__ = ["CommonHeaders"]

_access = logging.getLogger(ACCESS_LOG)
_UNLOGGED = frozenset({"/livez", "/readyz", ENGINE_PATH, "/metrics", COUNTS_PATH})
"""Routes that probes, Prometheus and the gateway ask often."""


class CommonHeaders:
    """Wraps the whole application, its error responses included.

    A client's own `x-request-id` is kept when it is harmless, else a new one is made. The ASGI state has the id, as
    `request_id`, and a dict `note`: what a route writes into it becomes part of the log line.
    """

    def __init__(self, app: ASGIApp, revision: str, metrics: Metrics) -> None:
        self._app = app
        self._revision = revision
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        ident = request_id(Headers(scope=scope).get("x-request-id", ""))
        note: dict[str, object] = {}
        scope.setdefault("state", {}).update(request_id=ident, note=note)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REVISION_HEADER] = self._revision
                headers["x-request-id"] = ident
                status = message["status"]
                self._metrics.on_response(_route(scope), status)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            route = _route(scope)
            if route not in _UNLOGGED and _access.isEnabledFor(logging.INFO):
                _access.info("%s", _line(scope, route, ident, status, time.monotonic() - started, note))


def _route(scope: Scope) -> str:
    """Return the route's pattern, never the raw path: the paths that a scanner tries must not become labels."""
    route = scope.get("route")
    return getattr(route, "path", "other")


def _line(scope: Scope, route: str, request_id: str, status: int, seconds: float, note: dict[str, object]) -> str:
    client = scope.get("client")
    return json.dumps(
        {
            "event": "request",
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "id": request_id,
            "client": client[0] if client else None,
            "method": scope["method"],
            "route": route,
            "status": status,
            "seconds": round(seconds, 3),
            **note,
        }
    )
