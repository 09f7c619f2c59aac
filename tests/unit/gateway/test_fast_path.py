"""The fast path responds as the routes would, and leaves other requests to them."""

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from vicuna_server.errors import OverloadedError
from vicuna_server.gateway.fast_path import FastPath


async def _answer(request: Request) -> Response:
    if await request.body() == b"full":
        raise OverloadedError("no place", retry_after=7)
    return PlainTextResponse("short")


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [("POST", "/a", "short"), ("GET", "/a", "long"), ("POST", "/a/", "long"), ("POST", "/b", "long")],
)
async def test_only_posts_of_its_paths_take_it(method: str, path: str, text: str) -> None:
    app = FastPath(PlainTextResponse("long"), ["/a"], _answer)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        assert (await http.request(method, path)).text == text


async def test_a_refusal_is_an_error_object() -> None:
    app = FastPath(PlainTextResponse("long"), ["/a"], _answer)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        answer = await http.post("/a", content=b"full")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["message"] == "no place"
