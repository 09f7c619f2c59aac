"""The chat page beside the API of one model server."""

import httpx

from support.serving import NO_TLS, running
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.page import PAGE_PATHS, page_answer


async def test_the_server_offers_the_page() -> None:
    async with (
        running(ScriptedEngine(ScriptedSettings())) as server,
        httpx.AsyncClient(base_url=server.url, verify=NO_TLS) as client,
    ):
        for path in PAGE_PATHS:
            response = await client.get(path)
            wanted = page_answer("GET", path, {"accept-encoding": "gzip"})
            assert wanted is not None
            assert response.status_code == 200
            assert wanted.headers.items() <= dict(response.headers).items()
            assert response.headers["x-vicuna-revision"] == "rev1"
            again = await client.get(path, headers={"if-none-match": response.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            head = await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == str(len(wanted.body))
        refused = await client.post("/", json={})
        assert refused.status_code == 405
        assert refused.json()["error"]["code"] == "method_not_allowed"
        assert not set(PAGE_PATHS) & set((await client.get("/openapi.json")).json()["paths"])
