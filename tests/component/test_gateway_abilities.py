"""What a gateway asks servers about their models, and tells its clients."""

import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from support.gateway import TINY, Gateway, answering, chat, gateway
from support.serving import NO_TLS, eventually, running
from support.signing import Pair
from vicuna_server.api.signature import Signatures
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway import ability_queries
from vicuna_server.gateway.catalogue import Endpoint, Model
from vicuna_server.gateway.signing import Signer

CAPABILITIES = {
    "chat": True,
    "completions": True,
    "embeddings": True,
    "tools": "generic",
    "tool_format": "generic",
    "reasoning": False,
}


@dataclass
class Listing:
    """A server that answers `/v1/models` with an entry of these fields, or by `act`; and the requests that it got."""

    fields: dict[str, Any] = field(default_factory=dict)
    act: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    url: str = ""
    requests: list[web.Request] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        if request.method == "POST":
            return web.json_response({"object": "answer"})
        self.requests.append(request)
        if self.act is not None:
            return await self.act(request)
        return web.json_response({"object": "list", "data": [{"id": "tiny", **self.fields}]})


@asynccontextmanager
async def listing(**fields: Any) -> AsyncIterator[Listing]:
    server = Listing(fields)
    async with answering(server.answer) as server.url:
        yield server


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once."""
    monkeypatch.setattr(ability_queries, "ask_again_after", lambda tries: 0.001 * tries)


async def _entry(door: Gateway) -> dict[str, Any]:
    listed = (await door.client.get("/v1/models")).json()["data"]
    one = (await door.client.get("/v1/models/team/tiny")).json()
    assert listed == [one]
    return {name: one[name] for name in ("max_model_len", "capabilities") if name in one}


async def _settled(door: Gateway) -> None:
    await eventually(lambda: door.abilities.open == 0)


def _put(door: Gateway, *endpoints: Endpoint) -> None:
    door.catalogue.put_endpoints(TINY.key, "slice", endpoints)


async def test_what_a_server_tells_is_in_the_gateways_list_while_it_is_ready() -> None:
    engine = ScriptedEngine(ScriptedSettings(tokens=1, context_length=50))
    async with running(engine) as server, gateway(learns=True) as door:
        door.route(server.url)
        await _settled(door)
        assert await _entry(door) == {"max_model_len": 50, "capabilities": CAPABILITIES}
        _put(door)
        assert await _entry(door) == {}
        _put(door, Endpoint(server.url))
        await _settled(door)
        door.catalogue.remove(TINY.key)
        door.catalogue.put(TINY)
        await _settled(door)
        assert await _entry(door) == {"max_model_len": 50, "capabilities": CAPABILITIES}


async def test_a_revision_is_asked_once_and_the_smaller_context_of_two_counts() -> None:
    async with listing(max_model_len=8) as one, listing(max_model_len=4) as two, gateway(learns=True) as door:
        door.catalogue.put(TINY)
        _put(door, Endpoint(one.url, "aaaaaaaa"))
        await _settled(door)
        for url in (two.url, "http://127.0.0.1:1"):
            _put(door, Endpoint(one.url, "aaaaaaaa"), Endpoint(url, "aaaaaaaa"))
            door.catalogue.put(TINY)
            assert door.abilities.open == 0
        assert (len(one.requests), len(two.requests), await _entry(door)) == (1, 0, {"max_model_len": 8})
        _put(door, Endpoint(one.url, "aaaaaaaa"), Endpoint(two.url, "bbbbbbbb"))
        await _settled(door)
        assert (len(one.requests), len(two.requests), await _entry(door)) == (1, 1, {"max_model_len": 4})


async def test_an_older_server_is_asked_a_few_times_and_requests_go_to_it_as_before() -> None:
    async with listing() as old, gateway(learns=True) as door:
        door.route(old.url)
        await _settled(door)
        assert (len(old.requests), await _entry(door)) == (10, {})
        assert (await door.client.post("/v1/chat/completions", json=chat())).status_code == 200


async def test_a_server_that_has_not_loaded_yet_is_asked_again() -> None:
    async with listing() as server, gateway(learns=True) as door:

        async def loading(_: web.Request) -> web.StreamResponse:
            if len(server.requests) == 3:
                server.act, server.fields = None, {"max_model_len": 16}
            return web.json_response({"data": [{"id": "tiny"}]})

        server.act = loading
        door.route(server.url)
        await _settled(door)
        assert (len(server.requests), await _entry(door)) == (4, {"max_model_len": 16})


async def _broken(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def _redirect(_: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"location": "/v1/models"})


async def _html(_: web.Request) -> web.StreamResponse:
    return web.Response(text='{"data":[{"id":"tiny","max_model_len":1}]}', content_type="text/html")


async def _long(_: web.Request) -> web.StreamResponse:
    return web.json_response({"data": [{"id": "tiny", "max_model_len": 1, "x": "y" * 2**17}]})


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" " * 2**16)


@pytest.mark.parametrize("act", [_broken, _redirect, _html, _long, _endless])
async def test_a_hostile_answer_is_not_believed_and_asked_for_again(
    act: Callable[[web.Request], Awaitable[web.StreamResponse]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, ability_queries.__name__)
    async with listing() as server, gateway(learns=True) as door:
        server.act = act
        door.route(server.url)
        await eventually(lambda: len(server.requests) > 3)
        assert await _entry(door) == {}
        assert (await door.client.post("/v1/chat/completions", json=chat())).status_code == 200
        server.act, server.fields = None, {"max_model_len": 32}
        await _settled(door)
        assert await _entry(door) == {"max_model_len": 32}
    assert len([each for each in caplog.records if each.name == ability_queries.__name__]) == 1


async def test_of_a_hostile_entry_only_what_is_well_formed_is_told() -> None:
    capabilities = {**CAPABILITIES, "evil": "<script>"}
    fields = {"max_model_len": "<script>", "capabilities": capabilities, "status": "evil", "id": "tiny"}
    async with listing(**fields) as server, gateway(learns=True) as door:
        door.route(server.url)
        await _settled(door)
        assert await _entry(door) == {"capabilities": CAPABILITIES}
        assert "evil" not in (await door.client.get("/v1/models")).text


async def test_servers_that_do_not_answer_hold_up_no_request_and_few_are_asked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = asyncio.Event()

    async def hold(_: web.Request) -> web.StreamResponse:
        await held.wait()
        return web.json_response({"data": [{"id": "tiny", "max_model_len": 5}]})

    async with listing() as server, gateway(learns=True) as door:
        server.act = hold
        models = [Model("team", f"m{number}", f"m{number}") for number in range(19)]
        for model in (*models, TINY):
            door.route(server.url, model=model)
        await eventually(lambda: len(server.requests) == 8)
        answer = await door.client.post("/v1/chat/completions", json=chat("team/m11"))
        assert (answer.status_code, len(server.requests), door.abilities.open) == (200, 8, 20)
        monkeypatch.setattr(ability_queries, "MOST_EMPTY", 1)
        held.set()
        await _settled(door)
        assert (await door.client.get("/v1/models/team/tiny")).json()["max_model_len"] == 5
        assert len(server.requests) == 20


async def test_a_slow_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ability_queries, "QUERY_SECONDS", 0.05)

    async def hold(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with listing(max_model_len=6) as well, listing() as slow, gateway(learns=True) as door:
        slow.act = hold
        door.catalogue.put(TINY)
        _put(door, Endpoint(well.url, "aaaaaaaa"), Endpoint(slow.url, "aaaaaaaa"))  # the second is asked first
        await _settled(door)
        assert (len(slow.requests), len(well.requests), await _entry(door)) == (1, 1, {"max_model_len": 6})


async def test_questions_are_signed_for_servers_that_demand_it() -> None:
    pair = Pair()
    async with listing(max_model_len=3) as server, gateway(learns=True) as door:
        door.upstream.signer = Signer(pair.private)
        door.route(server.url, model=Model("team", "tiny", "tiny", uid="uid-1"))
        await _settled(door)
    (asked,) = server.requests
    Signatures([pair.public], "team/tiny/uid-1").check(asked.headers["x-vicuna-signature"], "GET", "/v1/models")


async def test_questions_end_with_their_endpoints_and_with_the_gateway() -> None:
    waiting, left = asyncio.Event(), asyncio.Event()

    async def hold(_: web.Request) -> web.StreamResponse:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        raise AssertionError

    async with listing() as server, gateway(learns=True) as door:
        server.act = hold
        ends: list[Callable[[], None]] = [lambda: _put(door), lambda: door.catalogue.remove(TINY.key)]
        for end in ends:
            waiting.clear()
            door.route(server.url)
            await asyncio.wait_for(waiting.wait(), 20)
            end()
            assert door.abilities.open == 0
        door.route(server.url)
        await eventually(lambda: len(server.requests) == 3)
    assert door.abilities.open == 0


@pytest.mark.long
async def test_the_gateways_process_tells_what_a_signed_upstream_told(tmp_path: Path) -> None:
    pair = Pair()
    (tmp_path / "key.pem").write_bytes(pair.pem)
    async with listing(max_model_len=77, capabilities=CAPABILITIES) as server:
        flags = ["--no-keys", "--upstream", f"tiny={server.url}", "--port", "0", "--metrics-port", "0"]
        flags += ["--host", "127.0.0.1", "--drain-seconds", "0", "--signing-key", str(tmp_path / "key.pem")]
        command = [sys.executable, "-m", "vicuna_server.cli", "gateway", *flags]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
            try:
                assert process.stderr is not None
                found = re.search(r"port (\d+), metrics", await asyncio.to_thread(process.stderr.readline))
                assert found is not None
                async with httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{found[1]}", timeout=30, verify=NO_TLS
                ) as client:
                    await eventually(lambda: bool(server.requests))
                    async with asyncio.timeout(20):
                        while "max_model_len" not in (entry := (await client.get("/v1/models/tiny")).json()):
                            pass
                process.terminate()
                assert await asyncio.to_thread(process.wait, 20) == 0
            finally:
                process.kill()
    assert (entry["max_model_len"], entry["capabilities"]) == (77, CAPABILITIES)
    (asked,) = server.requests
    Signatures([pair.public], "/tiny/").check(asked.headers["x-vicuna-signature"], "GET", "/v1/models")
