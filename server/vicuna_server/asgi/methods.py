"""HEAD and OPTIONS of every route. Pure ASGI."""

from collections.abc import Callable, Collection

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["HeadAndOptions"]


class HeadAndOptions:
    """Serves HEAD as GET without a body, and OPTIONS with a route's methods; a HEAD of a route without GET likewise.

    Args:
        app: The application behind.
        allowed: Returns the methods of a path; empty: the path does not exist.
    """

    def __init__(self, app: ASGIApp, allowed: Callable[[str], Collection[str]]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] in ("HEAD", "OPTIONS"):
            allowed = self._allowed(scope["path"])
            if scope["method"] == "HEAD" and "GET" in allowed:
                # A copy: the server still knows that it was HEAD, and sends no body.
                scope = {**scope, "method": "GET"}
            elif allowed:
                response = Response(status_code=204)
                MutableHeaders(raw=response.raw_headers)["allow"] = ", ".join(sorted({*allowed, "HEAD", "OPTIONS"}))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)
