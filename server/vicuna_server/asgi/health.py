"""`/livez` and `/readyz`."""

from collections.abc import Callable

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

__all__ = ["health_routes"]


def health_routes(not_ready: Callable[[], str], hung: Callable[[], bool] = lambda: False) -> APIRouter:
    """Return the routes.

    Args:
        not_ready: Returns why the server is not ready, in one word; empty: it is ready.
        hung: Returns whether only a restart of the process helps.
    """
    routes = APIRouter()

    @routes.get("/livez", response_class=PlainTextResponse, responses={503: {"description": "Hung"}})
    async def livez() -> Response:
        """Report whether the process makes progress; a kubelet restarts one that does not."""
        return PlainTextResponse("hung\n", 503) if hung() else PlainTextResponse("ok\n")

    @routes.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "Not ready"}})
    async def readyz() -> Response:
        """Report whether the server may get requests: it has passed its smoke test and is not draining."""
        why = not_ready()
        return PlainTextResponse(f"{why}\n", 503) if why else PlainTextResponse("ok\n")

    return routes
