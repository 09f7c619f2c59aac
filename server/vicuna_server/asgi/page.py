"""The chat page at `/`: served without an API key, since the key is entered there."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from vicuna_server.page import PAGE_PATHS, page_answer, page_file

__all__ = ["router"]


def router() -> APIRouter:
    """Return the routes of the page's files."""
    routes = APIRouter()
    for path in PAGE_PATHS:
        page_file(path)  # reads and compresses the file now, so that no request waits for it
        routes.add_api_route(path, _page, methods=["GET", "HEAD"], include_in_schema=False)
    return routes


async def _page(request: Request) -> Response:
    answer = page_answer(request.method, request.scope["route"].path, request.headers)
    assert answer is not None  # noqa: S101  # routed by PAGE_PATHS
    return Response(answer.body, answer.status, dict(answer.headers))
