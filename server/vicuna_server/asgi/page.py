"""The chat page at `/`: reachable without a key, since it is where one is entered."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from vicuna_server.page import PAGE_PATHS, page_answer, page_file

__all__ = ["router"]


def router() -> APIRouter:
    """Return the routes of the page's files."""
    routes = APIRouter()
    for path in PAGE_PATHS:
        page_file(path)  # read and compressed now, not while others wait
        routes.add_api_route(path, _page, methods=["GET", "HEAD"], include_in_schema=False)
    return routes


async def _page(request: Request) -> Response:
    answer = page_answer(request.method, request.scope["route"].path, request.headers)
    assert answer is not None  # noqa: S101  # routed by PAGE_PATHS
    return Response(answer.body, answer.status, dict(answer.headers))
