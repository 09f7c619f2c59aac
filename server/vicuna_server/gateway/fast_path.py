"""A fast path to the routes that carry nearly all requests. Pure ASGI.

FastAPI tries one route after the other, and resolves dependencies that these routes do not have. That is a seventh of
the CPU time of a request.
"""

from collections.abc import Awaitable, Callable, Collection

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vicuna_server.asgi.errors import error_response
from vicuna_server.errors import VicunaError

__all__ = ["FastPath"]


class FastPath:
    """Responds to POST requests of some paths itself; the application gets all others.

    Args:
        app: has these routes too, for the OpenAPI document and other methods.
        paths: of these routes.
        respond: returns the response to a request.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str], respond: Callable[[Request], Awaitable[Response]]) -> None:
        self._app = app
        self._paths = frozenset(paths)
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        try:
            response = await self._respond(Request(scope, receive, send))
        except VicunaError as error:
            response = error_response(error)
        await response(scope, receive, send)
