"""Names and salts through a running gateway: which model gets a request, which errors and headers are sent."""

import json
import logging
from typing import Any

import httpx
import pytest

from support.gateway import Gateway, chat, faulty, gateway, head
from vicuna_contract.names import SALT_HEADER, WARNING_HEADER
from vicuna_server.gateway.catalogue import Model
from vicuna_server.gateway.keys import KeyRing, hash_of
from vicuna_server.gateway.options import NamespacedName, Options
from vicuna_server.gateway.resolving import Resolver

CHAT = "/v1/chat/completions"
KEYS: dict[str, dict[str, Any]] = {
    "all": {},
    "a": {"models": ["team-a/*"]},
    "wild": {"models": ["*/m", "*/gone"]},
    "home": {"defaultNamespace": "team-a"},
}


def _ring() -> KeyRing:
    return KeyRing.parse({name: json.dumps({"sha256": hash_of(name), **more}).encode() for name, more in KEYS.items()})


async def _ask(door: Gateway, name: str, key: str, **headers: str) -> httpx.Response:
    return await door.client.post(CHAT, json=chat(name), headers={"authorization": f"Bearer {key}", **headers})


def _answer(text: str) -> bytes:
    body = json.dumps({"object": text}).encode()
    return head("application/json", length=len(body)) + body


async def test_nobody_takes_the_place_of_another_namespaces_model() -> None:
    async with faulty(_answer("evil")) as evil, faulty(_answer("good")) as good, gateway(_ring(), several=True) as door:
        door.route(evil.url, model=Model("evil", "x", "team-b/gone"))
        door.route(evil.url, model=Model("evil", "m", "m"))
        door.route(good.url, model=Model("team-a", "m", "m"))
        for key in KEYS:
            answer = await _ask(door, "team-b/gone", key)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found"), key
            described = await door.client.get("/v1/models/team-b/gone", headers={"authorization": f"Bearer {key}"})
            assert described.status_code == 404
        assert not evil.requests
        for key in ("a", "home"):
            answer = await _ask(door, "m", key)
            assert (answer.status_code, answer.json()["object"]) == (200, "good"), key
            assert WARNING_HEADER not in answer.headers
        for key in ("all", "wild"):
            answer = await _ask(door, "m", key)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_ambiguous"), key
            assert (await _ask(door, "team-a/m", key)).json()["object"] == "good"
        assert not evil.requests
        door.route(good.url, model=Model("team-b", "gone", "gone"))
        assert (await _ask(door, "team-b/gone", "all")).json()["object"] == "good", "an id is there again"


async def test_a_served_name_that_reads_as_an_id_is_told_its_own_id_and_what_is_listed_resolves() -> None:
    async with faulty(_answer("hub")) as hub, gateway(_ring(), several=True) as door:
        for number, served in enumerate(("m", "lmsys/m", "LMSys/m", "team-a/own", "team-b/m")):
            door.route(hub.url, model=Model("team-a", f"m{number}", served))
        for key in ("a", "all", "home"):
            refused = await _ask(door, "lmsys/m", key)
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
            assert "team-a/lmsys/m" in refused.json()["error"]["message"]
            listed = (await door.client.get("/v1/models", headers={"authorization": f"Bearer {key}"})).json()["data"]
            assert len(listed) == 5
            for each in listed:
                answer = await _ask(door, each["id"], key)
                assert (answer.status_code, WARNING_HEADER in answer.headers) == (200, False), each["id"]
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in hub.requests]
    assert {body["model"] for body in bodies} == {"m", "lmsys/m", "LMSys/m", "team-a/own", "team-b/m"}


async def test_a_name_found_across_namespaces_comes_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with faulty(_answer("only")) as server, gateway(_ring(), several=True) as door:
        door.route(server.url, model=Model("team-a", "m", "m"))
        for _ in range(3):
            answer = await _ask(door, "m", "all")
            assert (answer.status_code, answer.json()["object"]) == (200, "only")
            assert "team-a/m" in answer.headers[WARNING_HEADER]
        described = await door.client.get("/v1/models/m", headers={"authorization": "Bearer all"})
        assert described.json()["id"] == "team-a/m"
        assert "team-a/m" in described.headers[WARNING_HEADER]
        for name, key in (("team-a/m", "all"), ("m", "a"), ("m", "home")):
            assert WARNING_HEADER not in (await _ask(door, name, key)).headers
        await _ask(door, "m", "wild")
    told = [record.getMessage() for record in caplog.records if record.name == Resolver.__module__]
    assert [line.partition(":")[0] for line in told] == ["the key 'all' asks for 'm'", "the key 'wild' asks for 'm'"]


async def test_where_one_namespace_is_watched_nothing_is_said() -> None:
    async with faulty(_answer("only")) as server, gateway(_ring()) as door:
        door.route(server.url, model=Model("team-a", "m", "lmsys/m"))
        answer = await _ask(door, "lmsys/m", "all")
        assert answer.status_code == 200
        assert WARNING_HEADER not in answer.headers


async def test_warnings_are_bounded_and_one_line_of_ascii(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vicuna_server.gateway.resolving._MOST_WARNINGS", 5)
    async with gateway(_ring(), several=True) as door:
        for number in range(9):
            door.route(model=Model(f"n{number}", "m", f"m{number}"))
        door.route(model=Model("n", "m", "é\r\nx: y"))
        odd = await _ask(door, "é\r\nx: y", "all")
        assert odd.status_code == 503
        assert "n/???x:?y" in odd.headers[WARNING_HEADER]
        for number in range(9):
            answer = await door.client.get(f"/v1/models/m{number}", headers={"authorization": "Bearer all"})
            assert answer.status_code == 200
    assert len([record for record in caplog.records if record.name == Resolver.__module__]) == 5


async def test_a_server_gets_the_salt_of_the_key_and_no_clients() -> None:
    async with faulty(_answer("x")) as server, gateway(_ring(), several=True) as door:
        door.route(server.url, model=Model("team-a", "m", "m"))
        for key, said in (("a", {}), ("a", {SALT_HEADER: "mine"}), ("all", {"X-Vicuna-Cache-SALT": "mine"})):
            await _ask(door, "team-a/m", key, **said)
        door.authentication.ring = None
        await _ask(door, "team-a/m", "no-key", **{SALT_HEADER: "mine"})
    heads = [request.partition(b"\r\n\r\n")[0].decode().lower() for request in server.requests]
    salts = [[line for line in each.split("\r\n") if line.startswith(SALT_HEADER)] for each in heads]
    assert [len(each) for each in salts] == [1, 1, 1, 0]
    assert salts[0] == salts[1] != salts[2]
    assert "mine" not in "".join(heads)


@pytest.mark.parametrize(
    ("namespaces", "upstreams", "several"),
    [((), (), True), (("a", "b"), (), True), (("a",), (), False), (("a", "a"), (), False), ((), (("m", "u"),), False)],
)
def test_which_gateways_have_several_namespaces(namespaces: Any, upstreams: Any, several: bool) -> None:
    secret = NamespacedName("system", "keys")
    options = Options("127.0.0.1", 0, 0, 1, namespaces=namespaces, keys_secret=secret, upstreams=upstreams)
    assert options.several_namespaces is several
