"""`/v1/responses` through the gateway: byte for byte, counted, and by the id at the server that keeps a response."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from support.counting import told
from support.gateway import TINY, Gateway, chunk, faulty, gateway, head
from support.responses import PATH, events
from support.serving import Running, eventually, openai_client, running
from support.signing import Pair
from vicuna_contract.signing import audience
from vicuna_server.api.signature import Signatures
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway.buffering import LARGE_EVENT_BYTES
from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.gateway.keys import KeyRing, hash_of
from vicuna_server.gateway.salts import salt_of
from vicuna_server.gateway.signing import Signer
from vicuna_server.protocol.counts import Used
from vicuna_server.protocol.responses.ids import new_id, replica_tag

RING = KeyRing.parse({name: json.dumps({"sha256": hash_of(name), "models": ["team/*"]}).encode() for name in "ab"})
ASK: dict[str, Any] = {"model": "tiny", "input": "one two"}


def by(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


@asynccontextmanager
async def server(patch: pytest.MonkeyPatch, pod: str, **settings: Any) -> AsyncIterator[Running]:
    """Run a server that takes itself for a pod."""
    patch.setattr("socket.gethostname", lambda: pod)
    async with running(ScriptedEngine(ScriptedSettings(tokens=3)), **settings) as live:
        yield live


def route(door: Gateway, **pods: Running) -> None:
    """Set the servers of the one model, by the names of their pods."""
    door.catalogue.put(TINY)
    endpoints = [Endpoint(live.url, replica=replica_tag(pod)) for pod, live in pods.items()]
    door.catalogue.put_endpoints(TINY.key, "slice", endpoints)


async def made(door: Gateway, name: str = "a", **fields: Any) -> dict[str, Any]:
    response = await door.client.post(PATH, json={**ASK, **fields}, headers=by(name))
    assert response.status_code == 200, response.text
    read: dict[str, Any] = response.json()
    return read


@pytest.mark.parametrize("streams", [False, True])
async def test_a_response_comes_through_byte_for_byte_and_is_counted(streams: bool) -> None:
    async with running(ScriptedEngine(ScriptedSettings(tokens=3))) as live, gateway() as door:
        door.route(live.url)
        body = {**ASK, "stream": streams}
        straight, through = (await live.http.post(PATH, json=body), await door.client.post(PATH, json=body))
        plain = [re.sub(r"[a-z]+_[0-9a-f]{44}|(?<=_at\":)\d+", "", each.text) for each in (straight, through)]
        assert plain[0] == plain[1]
        last = events(through.text)[-1]["response"] if streams else through.json()
        usage = last["usage"]
        await eventually(lambda: door.upstream.accounting.under_way == 0)
        counted = door.upstream.accounting.used("", "team/tiny")
        assert counted == Used(usage["input_tokens"], usage["output_tokens"])
        assert await told(live) == Used(2 * usage["input_tokens"], 2 * usage["output_tokens"])


@pytest.mark.long
async def test_a_response_is_found_at_the_server_that_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        server(monkeypatch, "tiny-1-a") as one,
        server(monkeypatch, "tiny-1-b") as two,
        gateway(RING) as door,
    ):
        route(door, **{"tiny-1-a": one, "tiny-1-b": two})
        first: list[Any] = []
        while len(first) < 4 or len({response["id"][5:17] for response in first}) < 2:  # both servers have made some
            first.append(await made(door, input=f"question {len(first)}"))
        for response in first:
            for _ in range(3):
                path = f"{PATH}/{response['id']}"
                assert (await door.client.get(path, headers=by("a"))).json() == response
                next_one = await made(door, previous_response_id=response["id"])
                assert next_one["id"][5:17] == response["id"][5:17]
            items = (await door.client.get(f"{PATH}/{next_one['id']}/input_items?limit=2", headers=by("a"))).json()
            assert (len(items["data"]), items["has_more"]) == (2, True)
            foreign = await door.client.get(path, headers=by("b"))
            unknown = await door.client.get(f"{PATH}/{new_id('resp', response['id'][5:17])}", headers=by("a"))
            assert (foreign.status_code, foreign.text) == (unknown.status_code, unknown.text)
            assert foreign.status_code == 404
            assert (await door.client.delete(path, headers=by("a"))).json()["deleted"] is True
            assert (await door.client.get(path, headers=by("a"))).status_code == 404
        posts = len(first) * 4
        await eventually(lambda: door.metric("vicuna_gateway_requests_in_flight") == 0)
        usage = [await told(live) for live in (one, two)]
        assert sum(each.completion for each in usage) == posts * 4  # reading a response again costs nothing
        assert door.upstream.accounting.used("a", "team/tiny").completion == posts * 4


async def test_an_item_is_found_at_the_server_that_keeps_it_or_the_request_goes_anywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        server(monkeypatch, "tiny-1-a") as one,
        server(monkeypatch, "tiny-1-b") as two,
        gateway(RING) as door,
    ):
        route(door, **{"tiny-1-a": one, "tiny-1-b": two})
        message = (await made(door))["output"][0]
        reference = {"type": "item_reference", "id": message["id"]}
        for _ in range(4):
            response = await made(door, input=[{"role": "user", "content": "x"}, reference])
            assert response["id"][5:17] == message["id"][4:16]
        text = [{"role": "user", "content": json.dumps({**reference, "id": new_id("msg", replica_tag("gone"))})}]
        await made(door, input=text)


async def test_a_server_that_has_gone_is_told_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(monkeypatch, "tiny-1-b") as two, gateway(RING) as door:
        async with server(monkeypatch, "tiny-1-a") as one:
            route(door, **{"tiny-1-a": one})
            first = await made(door)
        route(door, **{"tiny-1-b": two})
        read = await door.client.get(f"{PATH}/{first['id']}", headers=by("a"))
        body = {**ASK, "previous_response_id": first["id"]}
        for streams in (False, True):
            refused = await door.client.post(PATH, json={**body, "stream": streams}, headers=by("a"))
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "response_not_found")
            assert refused.json()["error"]["param"] == "previous_response_id"
        assert (read.status_code, read.json()["error"]["code"]) == (404, "response_not_found")
        assert "only while that server runs" in read.json()["error"]["message"]
        assert (await told(two)).completion == 0  # it was not asked
        route(door)
        assert (await door.client.post(PATH, json=body, headers=by("a"))).status_code == 503  # no server at all


@pytest.mark.long
async def test_servers_whose_names_are_not_known_are_asked_one_after_the_other() -> None:
    engines = [ScriptedEngine(ScriptedSettings(tokens=3)) for _ in range(2)]
    async with running(engines[0]) as one, running(engines[1]) as two, gateway(RING) as door:
        door.route(one.url, two.url)
        for _ in range(4):
            response = await made(door)
            assert (await door.client.get(f"{PATH}/{response['id']}", headers=by("a"))).json() == response
            await made(door, previous_response_id=response["id"])
        ident = new_id("resp", replica_tag("other"))
        assert (await door.client.get(f"{PATH}/{ident}", headers=by("a"))).status_code == 404


@pytest.mark.parametrize("ident", ["resp_1", "x" * 500, "..%2f..%2fmetrics", "resp_" + "0" * 44])
async def test_an_id_that_is_not_one_is_not_asked_for(ident: str) -> None:
    answer = head("application/json", length=2) + b"{}"
    async with faulty(answer) as broken, gateway(RING) as door:
        door.catalogue.put(TINY)
        door.catalogue.put_endpoints(TINY.key, "slice", [Endpoint(broken.url, replica=replica_tag("pod"))])
        for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/input_items")):
            response = await door.client.request(method, f"{PATH}/{ident}{rest}", headers=by("a"))
            assert response.status_code == 404
        body = {**ASK, "previous_response_id": ident}
        assert (await door.client.post(PATH, json=body, headers=by("a"))).status_code == 404
        assert broken.requests == []


async def test_without_keys_nothing_is_kept() -> None:
    async with running(ScriptedEngine(ScriptedSettings(tokens=3))) as live, gateway() as door:
        door.route(live.url)
        headers = {"x-vicuna-cache-salt": "a" * 32}  # a client's own is not passed on
        response = (await door.client.post(PATH, json=ASK, headers=headers)).json()
        assert response["store"] is False
        read = await door.client.get(f"{PATH}/{response['id']}", headers=headers)
        assert (read.status_code, read.json()["error"]["code"]) == (404, "responses_not_kept")


async def test_a_key_needs_the_right_to_the_model() -> None:
    async with running(ScriptedEngine(ScriptedSettings(tokens=3))) as live, gateway(RING) as door:
        door.route(live.url)
        response = await made(door)
        assert (await door.client.get(f"{PATH}/{response['id']}")).status_code == 401
        narrow = KeyRing.parse({"a": json.dumps({"sha256": hash_of("a"), "models": ["other/*"]}).encode()})
        door.authentication.ring = narrow
        assert (await door.client.get(f"{PATH}/{response['id']}", headers=by("a"))).status_code == 404


async def test_a_server_gets_a_signature_and_a_salt_and_no_key() -> None:
    pair, ident, key = Pair(), new_id("resp", replica_tag("pod")), RING.find("a")
    assert key is not None
    checks = Signatures([pair.public], audience(TINY.namespace, TINY.name, TINY.uid))
    async with _answering_gets(head("application/json", length=2) + b"{}") as (url, heads), gateway(RING) as door:
        door.upstream.signer = Signer(pair.private)
        door.catalogue.put(TINY)
        door.catalogue.put_endpoints(TINY.key, "slice", [Endpoint(url, replica=replica_tag("pod"))])
        for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/input_items?limit=3&x=y")):
            answer = await door.client.request(method, f"{PATH}/{ident}{rest}", headers=by("a"))
            assert answer.text == "{}"
            first, *lines = heads[-1].decode().split("\r\n")
            assert first == f"{method} {PATH}/{ident}{rest.removesuffix('&x=y')} HTTP/1.1"
            sent = dict(line.lower().split(": ", 1) for line in lines if line)
            token = next(line.split(": ")[1] for line in lines if line.lower().startswith("x-vicuna-signature"))
            checks.check(token, method, f"{PATH}/{ident}{rest.partition('?')[0]}")
            assert sent["x-vicuna-cache-salt"] == salt_of(key, TINY)
            assert "authorization" not in sent


async def test_the_official_client_goes_on_with_a_conversation() -> None:
    async with running(ScriptedEngine(ScriptedSettings(tokens=2))) as live, gateway(RING) as door:
        door.route(live.url)
        async with openai_client(door.url, api_key="a") as client:
            first = await client.responses.create(model="team/tiny", input="one two")
            async with client.responses.stream(model="tiny", input="three", previous_response_id=first.id) as stream:
                async for _ in stream:
                    pass
                last = await stream.get_final_response()
            assert last.output_text == "three three "
            assert (await client.responses.retrieve(last.id)).output_text == last.output_text
            with pytest.raises(openai.BadRequestError) as caught:
                await client.responses.create(model="tiny", input="x", tools=[{"type": "web_search"}])
            assert caught.value.param == "tools.0"


@pytest.mark.parametrize(("size", "passes"), [(300_000, True), (LARGE_EVENT_BYTES + 300_000, False)])
async def test_the_last_events_may_be_large_on_this_route_alone(size: int, passes: bool) -> None:
    large = b'event: response.completed\ndata: {"x":"' + b"x" * size + b'"}\n\n'
    pieces = [chunk(large[start : start + 50_000]) for start in range(0, len(large), 50_000)]
    stream = (head("text/event-stream"), *pieces, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n")
    async with faulty(*stream) as broken, gateway() as door:
        door.route(broken.url)
        for path, body in ((PATH, ASK), ("/v1/completions", {"model": "tiny", "prompt": "x"})):
            text = (await door.client.post(path, json={**body, "stream": True})).text
            whole = passes and path == PATH
            assert (text.encode() == large + b"data: [DONE]\n\n") == whole
            assert ("upstream_invalid" in text) == (not whole)
        assert door.upstream.large_events.bytes == 0


@pytest.mark.long
async def test_a_server_that_is_lost_or_sends_nonsense_for_a_kept_response() -> None:
    ident = new_id("resp", replica_tag("pod"))
    answers = [
        ((), 502),
        ((head("text/html", length=2) + b"{}",), 502),
        ((head("text/event-stream"), chunk(b"data: x\n\n")), 502),
        ((head("application/json", status="401 Unauthorized", length=2) + b"{}",), 502),
        ((head("application/json", status="503 Service Unavailable", length=2) + b"{}",), 503),
        ((head("application/json", length=100) + b"{}",), 502),
    ]
    for answer, status in answers:
        async with _answering_gets(*answer) as (url, _), gateway(RING) as door:
            door.catalogue.put(TINY)
            door.catalogue.put_endpoints(TINY.key, "slice", [Endpoint(url, replica=replica_tag("pod"))])
            assert (await door.client.get(f"{PATH}/{ident}", headers=by("a"))).status_code == status


@asynccontextmanager
async def _answering_gets(*pieces: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answer every request without a body with these bytes; yield the address, and the heads that came."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"".join(pieces))
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", heads
    finally:
        listening.close()
