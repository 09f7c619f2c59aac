"""The gateway counts the same tokens as the servers, however a response ended, and clients do not see how."""

import asyncio
import contextlib
import json
import logging
import random
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.counting import Mixture, cutting, metric, told
from support.gateway import Gateway, chat, chunk, events, faulty, gateway, head
from support.raw import CHAT, exchange, request
from support.served_process import served, wait_ready
from support.serving import Running, eventually, running, write_tiny_model
from support.signing import Pair
from vicuna_server.api import counting as api_counting
from vicuna_server.api.signature import Signatures
from vicuna_server.asgi.access_log import ACCESS_LOG
from vicuna_server.engine import Engine, Generation
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.errors import EngineError
from vicuna_server.gateway import upstream, usage_queries
from vicuna_server.gateway.catalogue import Model
from vicuna_server.gateway.keys import KeyRing, hash_of
from vicuna_server.gateway.signing import Signer
from vicuna_server.protocol.counts import Used

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


def _engine(**settings: Any) -> ScriptedEngine:
    return ScriptedEngine(ScriptedSettings(**settings))


async def _sums(door: Gateway, *servers: Running) -> tuple[Used, Used]:
    """Return the gateway's tokens and the servers', once all requests are counted."""
    await eventually(lambda: door.upstream.accounting.under_way == 0, 90)
    text = door.upstream.metrics.render().decode()
    kinds = (rf'^vicuna_gateway_tokens_total{{.*kind="{kind}".* ([0-9.]+)$' for kind in Used._fields)
    counted = Used(*(int(sum(map(float, re.findall(kind, text, re.MULTILINE)))) for kind in kinds))
    each = [await told(server) for server in servers]
    assert door.upstream.accounting.used("", "team/tiny") == counted
    return counted, Used(sum(one.prompt for one in each), sum(one.completion for one in each))


def _generated(engines: Sequence[Engine]) -> int:
    return sum(engine.stats.generated_tokens for engine in engines)


@contextlib.asynccontextmanager
async def _two(engines: Sequence[Engine], dice: random.Random) -> AsyncIterator[tuple[Gateway, list[Running]]]:
    """A gateway before two servers; the connections to one of them are cut now and then."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running(engine)) for engine in engines]
        proxy = await stack.enter_async_context(cutting(servers[0].url, dice, 0.02))
        door = await stack.enter_async_context(gateway())
        door.route(proxy, servers[1].url)
        yield door, servers


async def _until_one_is_cut(door: Gateway) -> None:
    """Stream until one stream has been cut, of those before included; each may go to either server."""
    for number in range(500):
        if door.metric("vicuna_gateway_streams_broken_total"):
            return
        await door.client.post(CHAT, json=chat(words=f"{number}", stream=True, max_tokens=40, ignore_eos=True))
    raise AssertionError("no stream was cut")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no count be given up because the machine is busy."""
    monkeypatch.setattr(api_counting, "_UNKNOWN_SECONDS", 10.0)
    for module in (upstream, usage_queries):
        monkeypatch.setattr(module, "QUERY_SECONDS", 60.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.full)])
async def test_the_gateways_sum_is_the_servers_sum(count: int) -> None:
    dice = random.Random(count)
    # few slots, so that some requests wait, some are refused, and some clients disconnect while they wait
    speeds = [ScriptedSettings(tokens_per_second=speed) for speed in (25, 100)]
    engines = [ScriptedEngine(speed, max_concurrency=16) for speed in speeds]
    async with _two(engines, dice) as (door, servers):
        before = _generated(engines)
        mixture = Mixture(dice, lambda: _generated(engines), patience=1500, longest=10)
        await mixture.all(door, count, at_once=48)
        await _until_one_is_cut(door)
        counted, used = await _sums(door, *servers)
        assert counted == used
        assert used.completion == _generated(engines) - before
        assert used.prompt > 0
        assert mixture.left > count / 4
        assert sum(engine.stats.cancelled for engine in engines) > count / 5


@pytest.mark.usefixtures("patient")
async def test_the_sum_of_the_real_engine_is_the_gateways_too(tmp_path: Path) -> None:
    from vicuna_server.engine.builtin.engine import BuiltinEngine
    from vicuna_server.engine.settings import LoadSettings

    folder, dice = write_tiny_model(tmp_path / "model"), random.Random(3)
    engines = [BuiltinEngine(LoadSettings(folder, dtype="float32", max_concurrency=4)) for _ in range(2)]
    async with _two(engines, dice) as (door, servers):
        before = _generated(engines)
        mixture = Mixture(dice, lambda: _generated(engines), patience=150, longest=16)
        await mixture.all(door, 40, at_once=16)
        counted, used = await _sums(door, *servers)
        assert counted == used
        assert used.completion == _generated(engines) - before
        assert mixture.left > 0


async def test_of_a_killed_server_what_was_delivered_is_counted_but_for_the_last_moment(tmp_path: Path) -> None:
    rate, streams = 40, 6
    env = {"VICUNA_ENGINE": "scripted", "VICUNA_SCRIPTED_TOKENS_PER_SECOND": str(rate), "OMP_NUM_THREADS": "1"}
    with served(tmp_path, "--served-name", "tiny", **env) as server:
        wait_ready(server)
        async with gateway() as door:
            door.route(server.url)
            got = [0] * streams

            async def read(number: int) -> None:
                async with door.client.stream("POST", CHAT, json=chat(stream=True, ignore_eos=True)) as response:
                    async for line in response.aiter_lines():
                        assert not line.startswith(": vicuna")
                        got[number] += '"content":"' in line and '"role"' not in line
                assert "upstream_lost" in line or "[DONE]" in line or not line

            reading = [asyncio.create_task(read(number)) for number in range(streams)]
            await eventually(lambda: min(got) > 2 * rate)
            server.process.send_signal(signal.SIGKILL)
            await asyncio.gather(*reading)
            await eventually(lambda: door.upstream.accounting.under_way == 0)
            counted = door.upstream.accounting.used("", "team/tiny")
            assert counted.prompt == 3 * streams
            assert sum(got) - streams * rate <= counted.completion <= sum(got) + streams


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("how", ["left", "revoked", "silent"])
async def test_an_answer_that_ends_early_is_counted_and_logged(
    how: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    key = "vk-" + "k" * 43
    ring = KeyRing.parse({"alice": json.dumps({"sha256": hash_of(key)}).encode()})
    engine = _engine(tokens=10**6, tokens_per_second=50)
    # without tokens the stream is silent, so a time limit of the gateway ends it
    limit: dict[str, Any] = {"idle_seconds": 0.3} if how == "silent" else {}
    async with running(engine) as server, gateway(ring, **limit) as door:
        model = Model("team", "tiny", "tiny", max_stream_seconds=-29.7 if how == "silent" else 600)
        door.route(server.url, model=model)
        if how == "silent" and stream:
            engine._settings = ScriptedSettings(tokens=10**6, tokens_per_second=0.5)
        smoke = engine.stats.generated_tokens
        with caplog.at_level(logging.INFO, ACCESS_LOG):
            headers = {"authorization": f"Bearer {key}"}
            asking = asyncio.create_task(door.client.post(CHAT, json=chat(stream=stream), headers=headers))
            await eventually(lambda: engine.stats.running == 1)
            if how != "silent":
                await eventually(lambda: engine.stats.generated_tokens > smoke + 5)
            if how == "left":
                asking.cancel()
            elif how == "revoked":
                door.authentication.ring = KeyRing()
            await asyncio.wait([asking])
            await eventually(lambda: door.upstream.accounting.under_way == 0)
        used = await told(server)
        assert used == (3, engine.stats.generated_tokens - smoke)
        assert door.upstream.accounting.used("alice", "team/tiny") == used
        assert door.metric("vicuna_gateway_tokens_total") == sum(used)
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == ACCESS_LOG]
    (usage,) = [line["usage"] for line in lines if line["event"] == "request" and "revision" in line]
    assert usage == {"prompt_tokens": 3, "completion_tokens": used.completion, "total_tokens": sum(used)}


async def test_an_answer_that_fails_in_the_engine_is_counted() -> None:
    engine = _engine(tokens=5)
    plain = Generation.push

    def push(self: Generation, event: Any) -> None:
        plain(self, EngineError("GenerationFailed", "it broke") if getattr(event, "tokens", 0) == 3 else event)

    async with running(engine) as server, gateway() as door:
        door.route(server.url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Generation, "push", push)
            whole = await door.client.post(CHAT, json=chat(n=2))
            stream = await door.client.post(CHAT, json=chat(stream=True, n=2))
        assert (whole.status_code, stream.status_code) == (500, 200)
        assert "it broke" in stream.text
        counted, used = await _sums(door, server)
        assert counted == used
        assert (used.prompt, used.completion > 4) == (6, True)


async def test_a_client_can_neither_ask_for_counts_nor_see_them() -> None:
    async with running(_engine(tokens=4)) as server, gateway() as door:
        door.route(server.url)
        name = "a" * 32
        body = json.dumps(chat(stream=True)).encode()
        lines = (f"x-vicuna-counting: {name}", f"X-Vicuna-Counting: {name}", "connection: close")
        answer = await exchange(door.url, request(body, *lines))
        assert answer.count(b"data: ") == 7
        assert b": vicuna" not in answer
        assert b"x-vicuna-counting" not in answer.lower()
        assert (await door.client.get("/internal/counts", headers={"x-vicuna-counting": name})).status_code == 404
        assert "/internal" not in (await door.client.get("/openapi.json")).text
        ok = head("application/json", length=2) + b"{}"
        async with faulty(ok) as stranger:
            door.route(stranger.url)
            for _ in range(2):
                await door.client.post(CHAT, json=chat(), headers={"x-vicuna-counting": name})
            names = [re.findall(rb"(?i)^x-vicuna-counting: (\S+)\r$", each, re.M) for each in stranger.requests]
            assert [len(each) for each in names] == [1, 1]
            assert all(re.fullmatch(rb"[0-9a-f]{32}", one) for (one,) in names)
            assert len({name.encode(), *(one for (one,) in names)}) == 3


WILD = [
    b': vicuna {"usage":[-1,5]}\n\n',
    b': vicuna {"usage":[' + b"9" * 5000 + b",5]}\n\n",
    b": vicuna " + b"[" * 100_000 + b"\n\n",
    b': vicuna {"usage":[1e300,NaN]}\r\n\r\n',
    b": vicuna\n\n: vicunax\r\r: vicuna {\n: vicuna\n\n",
]


async def test_a_strangers_comments_do_no_harm() -> None:
    pieces = [piece for wild in WILD for piece in (EVENT, wild[:7], wild[7:30], wild[30:])]
    said = [head("text/event-stream"), *(chunk(each) for each in [*pieces, DONE] if each), END]
    async with faulty(*said) as stranger, gateway() as door:
        door.route(stranger.url)
        response = await door.client.post(CHAT, json=chat(stream=True))
        assert response.content == EVENT * len(WILD) + DONE
        await eventually(lambda: door.upstream.accounting.under_way == 0)
        assert door.metric("vicuna_gateway_tokens_total") == 0
        assert not stranger.questions


async def test_a_stranger_that_says_how_much_and_then_nothing_is_asked_and_believed() -> None:
    most = b': vicuna {"usage":[9,2147483647]}\n\n'
    said = [head("text/event-stream"), chunk(most + EVENT), chunk(EVENT)]
    async with faulty(*said, hold=True) as stranger, gateway(idle_seconds=0.3) as door:
        door.route(stranger.url)
        response = await door.client.post(CHAT, json=chat(stream=True))
        assert len(events(response.text)) == 3
        await eventually(lambda: door.upstream.accounting.under_way == 0)
        assert door.upstream.accounting.used("", "team/tiny") == (9, 2147483647)
        assert len(stranger.questions) == 1


async def test_of_a_server_of_an_earlier_version_the_usage_counts() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
    async with faulty(head("text/event-stream"), chunk(EVENT), chunk(usage + DONE), END) as old, gateway() as door:
        door.route(old.url)
        assert (await door.client.post(CHAT, json=chat(stream=True))).content == EVENT + usage + DONE
        assert door.upstream.accounting.used("", "team/tiny") == (3, 4)
        assert not old.questions  # nothing was missing, or would be known there
        await eventually(lambda: door.upstream.accounting.under_way == 0)


async def test_a_question_is_signed_where_requests_are() -> None:
    pair, model = Pair(), Model("team", "tiny", "tiny", uid="uid-1")
    async with faulty(head("text/event-stream"), chunk(EVENT)) as lost, gateway() as door:
        door.upstream.signer = Signer(pair.private)
        door.route(lost.url, model=model)
        await door.client.post(CHAT, json=chat(stream=True))
        await eventually(lambda: door.upstream.accounting.under_way == 0)
    (question,) = lost.questions
    lines = (line.partition(": ") for line in question.decode().split("\r\n")[1:] if line)
    headers = httpx.Headers([(name, value) for name, _, value in lines])
    Signatures([pair.public], "team/tiny/uid-1").check(headers["x-vicuna-signature"], "GET", "/internal/counts")
    asked = re.findall(rb"(?i)x-vicuna-counting: (\S+)", lost.requests[0])
    assert headers["x-vicuna-counting"].encode() == asked[0]


async def test_a_gateway_that_stops_asks_first() -> None:
    engine = _engine(tokens=10**6, tokens_per_second=50)
    async with running(engine) as server:
        smoke = engine.stats.generated_tokens
        async with gateway() as door:
            door.route(server.url)
            asking = asyncio.create_task(door.client.post(CHAT, json=chat(stream=True)))
            await eventually(lambda: engine.stats.generated_tokens > smoke + 5)
            asking.cancel()
            await eventually(lambda: door.upstream.balancer.under_way == 0)
        assert door.upstream.accounting.used("", "team/tiny") == await told(server)
        assert metric(door.upstream.metrics.render().decode(), "vicuna_gateway_tokens_total") > 0
