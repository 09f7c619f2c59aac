"""The short way to the routes that carry nearly all requests. Pure ASGI.

FastAPI tries one route after the other and looks for dependencies that ours do not have: a seventh of what a request
costs the gateway.
"""

from collections.abc import Awaitable, Callable, Collection

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vicuna_server.asgi.errors import error_response
from vicuna_server.errors import VicunaError

__all__ = ["Direct"]


class Direct:
    """Answers the POSTs of some paths by itself; whatever else comes is the application's.

    Args:
        app: has these routes too, for its document and for other methods.
        paths: of the routes.
        answer: makes the response to a request, to be sent then.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str], answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._app = app
        self._paths = frozenset(paths)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        try:
            response = await self._answer(Request(scope, receive, send))
        except VicunaError as error:
            response = error_response(error)
        await response(scope, receive, send)
