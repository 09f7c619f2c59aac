"""Responses of the gateway to requests that do not follow the API; for servers see `test_serve_edges`."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from support.gateway import Gateway, chat, gateway
from support.serving import NO_TLS, running
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway.keys import KeyRing, hash_of

CHAT = "/v1/chat/completions"
KEY = {"authorization": "Bearer secret"}
PAGE = "https://app.example"


@asynccontextmanager
async def door(**settings: Any) -> AsyncIterator[tuple[Gateway, httpx.AsyncClient]]:
    ring = KeyRing.parse({"k": json.dumps({"sha256": hash_of("secret")}).encode()})
    async with running(ScriptedEngine(ScriptedSettings(tokens=3))) as live, gateway(ring, **settings) as opened:
        opened.route(live.url)
        async with httpx.AsyncClient(base_url=opened.url, timeout=60, verify=NO_TLS) as client:
            yield opened, client


async def test_head_and_options_need_a_key_like_everything_else() -> None:
    async with door() as (_, client):
        for method in ("HEAD", "OPTIONS"):
            for path in ("/v1/models", CHAT):
                assert (await client.request(method, path)).status_code == 401
                answer = await client.request(method, path, headers=KEY)
                assert answer.status_code in (200, 204)
                assert not answer.content


@pytest.mark.parametrize("path", [f"{CHAT}/", "/v1/v1/chat/completions", "/chat/completions", "/v1/models/"])
async def test_a_path_that_is_nearly_right_is_told_which_is(path: str) -> None:
    async with door() as (_, client):
        answer = await client.post(path, json=chat(), headers=KEY)
        if answer.status_code == 405:
            answer = await client.get(path, headers=KEY)
        assert answer.status_code == 404
        assert "/v1/" in answer.json()["error"]["message"].split(";", 1)[1]
        assert "location" not in answer.headers


async def test_a_compressed_body_is_refused_by_the_name_of_its_header() -> None:
    async with door() as (_, client):
        packed = gzip.compress(json.dumps(chat()).encode())
        refused = await client.post(CHAT, content=packed, headers={**KEY, "content-encoding": "gzip"})
        assert refused.status_code == 415
        assert "content-encoding" in refused.json()["error"]["message"]


async def test_pages_of_named_origins_get_in_with_a_key_and_read_what_they_may() -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    async with door(allowed_origins=(PAGE,)) as (_, client):
        preflight = await client.options(CHAT, headers={"origin": PAGE, **asked})
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, PAGE)
        other = await client.options(CHAT, headers={"origin": "https://other.example", **asked})
        assert "access-control-allow-origin" not in other.headers
        answer = await client.post(CHAT, json=chat(), headers={"origin": PAGE, **KEY})
        assert answer.headers.get_list("access-control-allow-origin") == [PAGE]
        refused = await client.post(CHAT, json=chat(), headers={"origin": PAGE})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)
    async with door() as (_, client):
        assert (
            "access-control-allow-origin" not in (await client.options(CHAT, headers={"origin": PAGE, **asked})).headers
        )


@pytest.mark.parametrize("given", ["one", ""], ids=["given", "made"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models", 200),
        ("GET", "/livez", 200),
        ("POST", CHAT, 404),
        ("GET", "/v1/nothing", 404),
        ("PUT", CHAT, 405),
        ("OPTIONS", CHAT, 204),
    ],
)
async def test_every_answer_has_the_id_by_which_it_is_found(method: str, path: str, status: int, given: str) -> None:
    async with door() as (_, client):
        own = {"x-request-id": given} if given else {}
        answer = await client.request(method, path, json=chat("nobody"), headers={**KEY, **own})
        (ident,) = answer.headers.get_list("x-request-id")
        assert (answer.status_code, ident if given else len(ident)) == (status, given or 32)
        (ident,) = (await client.post(CHAT, json=chat(), headers=own)).headers.get_list("x-request-id")
        assert not given or ident == given, "without a key too"
