"""A server that vanishes without a word is left once its cluster does not count it as ready any more."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from support.gateway import Gateway, chat, chunk, events, faulty, gateway, head, plain, preferring
from support.serving import Running, eventually, running
from support.severing import Severed, severed
from support.timers import FakeTimers
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway import exchange
from vicuna_server.gateway.silence import SILENT_SECONDS, Silence

CHAT = "/v1/chat/completions"
STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
WORDS = " ".join(f"word{number}" for number in range(40))
FIELDS: dict[str, Any] = {"temperature": 0, **STREAM}
KEEPALIVE = 15.0


@dataclass
class Timers(FakeTimers):
    """What the gateway measures silence by.

    Attributes:
        awaited: How many servers it waits for now.
        each: So many seconds each piece of a response takes to come.
    """

    awaited: int = 0
    each: float = 0.0


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    """Let silence be as long as a test says."""
    fake = Timers()

    class Known(Silence):
        def begin(self) -> None:
            super().begin()
            fake.awaited += 1

        def end(self) -> None:
            fake.advance(fake.each)
            super().end()
            fake.awaited -= 1

    monkeypatch.setattr(exchange, "Silence", partial(Known, timers=fake))
    return fake


@dataclass
class Two:
    """A gateway in front of two servers; the first one goes silent after 6 events."""

    door: Gateway
    first: Severed
    second: Running
    timers: Timers
    seen: int = 0

    async def silent(self, body: bytes) -> "asyncio.Task[list[Any]]":
        """Ask the first server, and return once it is silent."""
        self.door.route(self.first.url)
        self.first.events, self.seen = 6, 0
        asking = asyncio.create_task(self.ask(body))
        await eventually(lambda: self.seen == 6 and self.timers.awaited == 1)
        assert self.first.cut == 1
        return asking

    async def ask(self, body: bytes) -> list[Any]:
        """Return the events of an answer."""
        text = ""
        async with self.door.client.stream("POST", CHAT, content=body) as response:
            assert response.status_code == 200
            async for piece in response.aiter_text():
                text += piece
                self.seen = len(events(text))
        assert ": vicuna" not in text
        return plain(list(events(text)))


def _engine(**settings: Any) -> ScriptedEngine:
    return ScriptedEngine(ScriptedSettings(tokens=30, **settings))


@asynccontextmanager
async def _two(timers: Timers, **fields: Any) -> AsyncIterator[tuple[Two, bytes, list[Any]]]:
    body = json.dumps(chat(words=WORDS, **{**FIELDS, **fields})).encode()
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running(_engine(), artifact="one")) for _ in range(2)]
        first = await stack.enter_async_context(severed(servers[0].url, silent=True))
        door = await stack.enter_async_context(gateway())
        door.route(first.url)
        two = Two(door, first, servers[1], timers)
        whole = await two.ask(body)
        timers.awaited = 0
        yield two, body, whole


async def test_its_stream_goes_on_elsewhere(timers: Timers) -> None:
    async with _two(timers) as (two, body, whole):
        asking = await two.silent(body)
        timers.advance(1000)  # it is ready, as far as anybody knows
        assert two.door.metric("vicuna_gateway_streams_continued_total") == 0
        two.door.route(two.second.url)
        timers.advance(1)
        assert await asking == whole
        assert two.door.metric("vicuna_gateway_streams_continued_total") == 1
        assert two.door.metric("vicuna_gateway_streams_broken_total") == 0
        assert two.second.engine.stats.finished == 2  # its start is one
        await eventually(lambda: two.door.upstream.accounting.under_way == 0)
        assert two.door.upstream.balancer.under_way == 0
        assert timers.pending == []


async def test_not_before_it_is_silent_for_longer_than_a_server_that_lives(timers: Timers) -> None:
    async with _two(timers) as (two, body, whole):
        asking = await two.silent(body)
        two.door.route(two.second.url)
        timers.advance(SILENT_SECONDS - 1)
        two.first.resume.set()
        assert await asking == whole
        assert two.second.engine.stats.finished == 1


async def test_it_is_waited_for_where_no_other_server_is(timers: Timers) -> None:
    async with _two(timers) as (two, body, whole):
        asking = await two.silent(body)
        two.door.route()
        timers.advance(1000)
        two.first.resume.set()
        assert await asking == whole


@pytest.mark.parametrize("fields", [{"n": 2}, {"logprobs": True}])
async def test_a_stream_that_cannot_go_on_is_waited_for_too(fields: dict[str, Any], timers: Timers) -> None:
    async with _two(timers, **fields) as (two, body, whole):
        asking = await two.silent(body)
        two.door.route(two.second.url)
        timers.advance(1000)
        two.first.resume.set()
        assert await asking == whole
        assert two.door.metric("vicuna_gateway_streams_broken_total") == 0


@pytest.mark.parametrize("said", [(), (head("text/event-stream"),)])
async def test_before_its_first_byte_a_stream_is_asked_of_another_server(said: Sequence[bytes], timers: Timers) -> None:
    async with running(_engine(), artifact="one") as server, faulty(*said, hold=True) as silent, gateway() as door:
        door.route(silent.url, server.url)
        asking = asyncio.create_task(door.client.post(CHAT, content=preferring(silent.url, server.url, **FIELDS)))
        await eventually(lambda: len(silent.requests) == 1)
        timers.advance(1000)
        assert door.metric("vicuna_gateway_retries_total") == 0
        door.route(server.url)
        timers.advance(1)
        assert events((await asking).text)[-1] == "[DONE]"
        assert door.metric("vicuna_gateway_retries_total") == 1
        await silent.gone.wait()


async def test_before_its_first_event_it_begins_anew(timers: Timers) -> None:
    said = head("text/event-stream"), chunk(b": keep-alive\n\n")
    async with running(_engine(), artifact="one") as server, faulty(*said, hold=True) as silent, gateway() as door:
        door.route(silent.url)
        async with door.client.stream("POST", CHAT, json=chat(words=WORDS, n=2, **FIELDS)) as response:
            lines = response.aiter_lines()
            assert await anext(lines) == ": keep-alive"
            await eventually(lambda: timers.awaited == 1)
            door.route(server.url)
            timers.advance(SILENT_SECONDS)
            assert [line async for line in lines if line.startswith("data: ")][-1] == "data: [DONE]"
        assert door.metric("vicuna_gateway_streams_continued_total") == 1


async def test_a_response_that_is_no_stream_is_waited_for(timers: Timers) -> None:
    """A server that drains says nothing of one before it is complete."""
    async with running(_engine(), artifact="one") as server, faulty(hold=True) as silent, gateway() as door:
        door.route(silent.url)
        asking = asyncio.create_task(door.client.post(CHAT, json=chat()))
        await eventually(lambda: len(silent.requests) == 1)
        door.route(server.url)
        timers.advance(1000)
        assert server.engine.stats.finished == 1
        asking.cancel()
        await silent.gone.wait()


async def test_a_server_that_drains_and_sends_comments_alone_keeps_its_streams(timers: Timers) -> None:
    slow = _engine(tokens_per_second=4)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running(slow, artifact="one", keepalive_seconds=0.02))
        second = await stack.enter_async_context(running(_engine(), artifact="one"))
        door = await stack.enter_async_context(gateway())
        door.route(first.url)
        timers.each = KEEPALIVE
        async with door.client.stream("POST", CHAT, json=chat(words=WORDS, max_tokens=6, **FIELDS)) as response:
            door.route(second.url)
            text = (await response.aread()).decode()
        assert ": keep-alive" in text
        assert events(text)[-1] == "[DONE]"
        assert timers.now > 2 * SILENT_SECONDS
        assert second.engine.stats.finished == 1
        assert door.metric("vicuna_gateway_streams_continued_total") == 0
