"""HEAD and OPTIONS of every route. Pure ASGI."""

from collections.abc import Callable, Collection

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["HeadAndOptions"]


class HeadAndOptions:
    """Answers HEAD as GET without a body, and OPTIONS with what a route takes; a HEAD of what has no GET likewise.

    Args:
        app: what is behind.
        allowed: the methods that a path takes; none: there is no such path.
    """

    def __init__(self, app: ASGIApp, allowed: Callable[[str], Collection[str]]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request."""
        if scope["type"] == "http" and scope["method"] in ("HEAD", "OPTIONS"):
            allowed = self._allowed(scope["path"])
            if scope["method"] == "HEAD" and "GET" in allowed:
                # A copy: the server still knows that it was HEAD, and sends no body.
                scope = {**scope, "method": "GET"}
            elif allowed:
                answer = Response(status_code=204)
                MutableHeaders(raw=answer.raw_headers)["allow"] = ", ".join(sorted({*allowed, "HEAD", "OPTIONS"}))
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)
