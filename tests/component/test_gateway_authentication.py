"""Authentication of every route."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI

from support.gateway import Gateway, chat, gateway
from support.serving import running
from vicuna_server.asgi.access_log import ACCESS_LOG
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway.app import OPEN_PATHS
from vicuna_server.gateway.authentication import Authentication
from vicuna_server.gateway.catalogue import Model
from vicuna_server.gateway.keys import KeyRing, hash_of
from vicuna_server.gateway.rates import Rates


def _ring(**fields: object) -> KeyRing:
    return KeyRing.parse({"alice": json.dumps({"sha256": hash_of("secret"), **fields}).encode()})


def _bearer(token: str = "secret") -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _walk(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for route in routes:
        if hasattr(route, "methods"):
            yield from ((method, route.path) for method in route.methods)
        else:  # an included router
            yield from _walk(route.original_router.routes)


def _routes(door: Gateway) -> list[tuple[str, str]]:
    app: Any = door.authentication
    while not isinstance(app, FastAPI):
        app = getattr(app, "_app", None) or app.app
    found = list(_walk(app.routes))
    assert ("POST", "/v1/chat/completions") in found
    return found


async def test_every_route_but_health_needs_a_key() -> None:
    async with gateway(_ring()) as door:
        for method, pattern in [*_routes(door), ("GET", "/no-such-route")]:
            path = re.sub(r"\{.*?\}", "x", pattern)
            for headers in ({}, _bearer("wrong"), {"authorization": "Basic secret"}, {"authorization": "Bearer"}):
                response = await door.client.request(method, path, headers=headers)
                assert response.headers["x-content-type-options"] == "nosniff", (method, path)
                refused = response.status_code == 401
                assert refused == (path not in OPEN_PATHS), (method, path, headers)
                if refused and method != "HEAD":
                    assert response.json()["error"]["code"] == "invalid_api_key"
            assert (await door.client.request(method, path, headers=_bearer())).status_code != 401


async def test_a_key_sees_and_reaches_its_models_alone() -> None:
    async with running(ScriptedEngine(ScriptedSettings(tokens=2))) as server, gateway(_ring(models=["a/*"])) as door:
        for namespace in ("a", "b"):
            door.route(server.url, model=Model(namespace, "tiny", "tiny"))
        listed = (await door.client.get("/v1/models", headers=_bearer())).json()["data"]
        assert [model["id"] for model in listed] == ["a/tiny"]
        for name, status in (("tiny", 200), ("a/tiny", 200), ("b/tiny", 404)):
            response = await door.client.post("/v1/chat/completions", json=chat(name), headers=_bearer())
            assert response.status_code == status
            assert (await door.client.get(f"/v1/models/{name}", headers=_bearer())).status_code == status


async def test_what_is_refused_is_counted_and_logged_without_its_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger=ACCESS_LOG)
    async with running(ScriptedEngine(ScriptedSettings(tokens=2))) as server, gateway(_ring()) as door:
        door.route(server.url)
        path = "/v1/chat/completions"
        asked = [
            await door.client.post(path, json=chat(), headers=_bearer("wrong")),
            await door.client.post(path, json=chat("nobody"), headers=_bearer()),
            await door.client.post(path, content=b"{", headers=_bearer()),
            await door.client.get("/" + "x" * 5000, headers=_bearer()),
            await door.client.post(path, json=chat(), headers=_bearer()),
            await door.client.post(path, json=chat(max_tokens=-1), headers=_bearer()),
            await door.client.get("/livez"),
        ]
        told = door.upstream.metrics.render().decode()
    statuses = [response.status_code for response in asked]
    assert statuses == [401, 404, 400, 404, 200, 400, 200]
    counts = {line for line in told.splitlines() if line.startswith("vicuna_gateway_refused_total{")}
    assert counts == {
        'vicuna_gateway_refused_total{key="",status="401"} 1.0',
        'vicuna_gateway_refused_total{key="alice",status="404"} 2.0',
        'vicuna_gateway_refused_total{key="alice",status="400"} 1.0',
    }
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == ACCESS_LOG]
    refused = [line for line in lines if line["event"] == "refused"]
    assert [(line["key"], line["status"]) for line in refused] == [
        ("", 401),
        ("alice", 404),
        ("alice", 400),
        ("alice", 404),
    ]
    assert {line["id"] for line in refused} == {asked[at].headers["x-request-id"] for at in range(4)}
    assert {line["client"] for line in refused} == {"127.0.0.1"}
    assert all(len(line["route"]) <= 200 for line in refused)
    assert "wrong" not in caplog.text
    forwarded = [line["status"] for line in lines if line["event"] == "request" and "model" in line]
    assert forwarded == [200, 400], "what reached a server has its own line"


async def test_rotation_works_at_once_and_an_expired_key_says_so() -> None:
    async with gateway(_ring()) as door:
        assert (await door.client.get("/v1/models", headers=_bearer())).status_code == 200
        door.authentication.ring = _ring(expires=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
        response = await door.client.get("/v1/models", headers=_bearer())
        assert (response.status_code, response.json()["error"]["code"]) == (403, "api_key_expired")
        door.authentication.ring = KeyRing()
        assert (await door.client.get("/v1/models", headers=_bearer())).status_code == 401


async def test_a_key_that_asks_too_often_waits() -> None:
    async with gateway(_ring(requestsPerMinute=2)) as door:
        answers = [await door.client.post("/v1/chat/completions", json=chat(), headers=_bearer()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [404, 404, 429]
        assert 1 <= int(answers[2].headers["retry-after"]) <= 61
        assert answers[2].json()["error"]["type"] == "rate_limit_error"
        assert (await door.client.get("/v1/models", headers=_bearer())).status_code == 200


async def test_keys_and_prompts_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with gateway(_ring()) as door:
        door.route("http://127.0.0.1:1")
        body = chat(words="my private words")
        assert (await door.client.post("/v1/chat/completions", json=body, headers=_bearer())).status_code == 502
    own = [record.getMessage() for record in caplog.records if record.name.startswith("vicuna_server")]
    assert own
    assert not [line for line in own if "secret" in line or "private" in line or hash_of("secret") in line]


@pytest.mark.parametrize(
    ("lines", "opens"),
    [
        (b"Authorization: Bearer secret\r\n", True),
        (b"a: b\r\nAUTHORIZATION:bearer   secret  \r\nc: d\r\n", True),
        (b"authorization: Bearer secret\n", True),
        (b"authorization: Bearer other\r\n", False),
        (b"authorization: Basic secret\r\n", False),
        (b"authorization: Bearer\r\n", False),
        (b"authorization: \xff\xfe\r\n", False),
        (b"x-authorization: Bearer secret\r\n", False),
        (b"", False),
    ],
)
def test_a_head_tells_whether_its_key_opens_something(lines: bytes, opens: bool) -> None:
    head = b"GET / HTTP/1.1\r\n" + lines + b"\r\n"
    authentication = _authentication(_ring())
    assert authentication.has_valid_key(head) == opens
    authentication.ring = _ring(expires="2020-01-01T00:00:00Z")
    assert not authentication.has_valid_key(head)
    authentication.ring = None
    assert authentication.has_valid_key(head)


def _authentication(ring: KeyRing) -> Authentication:
    async def nothing(*_: object) -> None: ...

    authentication = Authentication(nothing, (), Rates())
    authentication.ring = ring
    return authentication
