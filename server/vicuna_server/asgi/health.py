"""`/livez` and `/readyz`."""

from collections.abc import Callable

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

__all__ = ["health_routes"]


def health_routes(not_ready: Callable[[], str], hung: Callable[[], bool] = lambda: False) -> APIRouter:
    """Return the routes.

    Args:
        not_ready: says in a word why the server is not ready; empty: it is.
        hung: whether only a new process helps.
    """
    routes = APIRouter()

    @routes.get("/livez", response_class=PlainTextResponse, responses={503: {"description": "Hung"}})
    async def livez() -> Response:
        """Say that the process answers and gets on; where it does not, it is to be started anew."""
        return PlainTextResponse("hung\n", 503) if hung() else PlainTextResponse("ok\n")

    @routes.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "Not ready"}})
    async def readyz() -> Response:
        """Say whether the server may get requests: it has proven itself and is not about to stop."""
        why = not_ready()
        return PlainTextResponse(f"{why}\n", 503) if why else PlainTextResponse("ok\n")

    return routes
