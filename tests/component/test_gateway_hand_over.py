"""A server that stops hands its streams over, where its model says after how long: no client notices."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from support.gateway import TINY, Gateway, chat, chunk, events, faulty, gateway, head, plain
from support.served_process import served, wait_ready
from support.serving import Running, eventually, running, write_tiny_model
from support.severing import severed
from support.stream_artifact import stream_artifact
from vicuna_contract.demand import Demand
from vicuna_server.engine import Engine
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway import frames, hand_over
from vicuna_server.gateway.continued_stream import ContinuedStream
from vicuna_server.protocol.counts import Used

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
WORDS = " ".join(f"word{number}" for number in range(40))
MOVED = 'vicuna_gateway_hand_overs_total{key="",model="team/tiny",revision="rev1",taken="yes"}'
STAYED = 'vicuna_gateway_hand_overs_total{key="",model="team/tiny",revision="rev1",taken="no"}'
AT_ONCE = replace(TINY, hand_over_seconds=0.0)


@dataclass
class Two:
    """A gateway in front of two servers, of which the first alone is ready when a request comes.

    Attributes:
        at: when a client has so many events, the first server is not ready any more; None: it stays.
        then: who is ready from then on.
        model: what is known of the model from then on.
    """

    door: Gateway
    first: Running
    second: Running
    at: int | None = None
    then: Sequence[str] = ()
    model: Any = AT_ONCE
    seen: int = field(default=0, init=False)

    async def ask(self, path: str, body: dict[str, Any], at: int | None, *then: str) -> list[str]:
        """Return the data of a stream's events."""
        self.at, self.then, self.seen = at, then or (self.second.url,), 0
        self.door.route(self.first.url, model=self.model)
        response = await self.door.client.post(path, json=body)
        assert response.status_code == 200, response.text
        assert ": vicuna" not in response.text
        return list(events(response.text))

    def passed(self, frames: bytes) -> None:
        """Count the events that the client has got."""
        self.seen += frames.count(b"data:")
        if self.at is not None and self.seen >= self.at:
            self.at = None
            self.door.route(*self.then, model=self.model)

    async def used(self) -> Used:
        """Return what is counted of all requests so far, once they are over."""
        await eventually(lambda: self.door.upstream.accounting.under_way == 0)
        return self.door.upstream.accounting.used("", "team/tiny")

    @property
    def hand_overs(self) -> tuple[float, float]:
        """How many streams were taken over, and how many were not."""
        return self.door.metric(MOVED), self.door.metric(STAYED)


@asynccontextmanager
async def _two(engines: Sequence[Engine], monkeypatch: pytest.MonkeyPatch, *artifacts: str) -> AsyncIterator[Two]:
    monkeypatch.setattr(hand_over, "LOOK_SECONDS", 0.0)
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(running(engine, artifact=name))
            for engine, name in zip(engines, artifacts or ("one", "one"), strict=True)
        ]
        two = Two(await stack.enter_async_context(gateway()), first, second)
        real = ContinuedStream.passed

        def passed(stream: ContinuedStream, frames: bytes) -> None:
            real(stream, frames)
            two.passed(frames)

        monkeypatch.setattr(ContinuedStream, "passed", passed)
        yield two


def _scripted(tokens: int = 40, rate: float = 0.0) -> list[Engine]:
    return [ScriptedEngine(ScriptedSettings(tokens=tokens, tokens_per_second=rate)) for _ in range(2)]


@pytest.fixture
async def scripted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Two]:
    async with _two(_scripted(), monkeypatch) as two:
        yield two


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
async def builtin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Two]:
    from vicuna_server.engine.builtin.engine import BuiltinEngine
    from vicuna_server.engine.settings import LoadSettings

    engines = [BuiltinEngine(LoadSettings(folder, dtype="float32")) for _ in range(2)]
    async with _two(engines, monkeypatch) as two:
        yield two


async def _check(two: Two, path: str, body: dict[str, Any], places: Sequence[int]) -> None:
    """The answer is the same, wherever it is handed over; so is what is counted of it."""
    await two.ask(path, body, None)  # the next one finds the prompt in the cache, as all others
    before = await two.used()
    whole = await two.ask(path, body, None)
    once = await two.used()
    for number, at in enumerate(places, 1):
        taken = two.second.engine.stats.finished
        data = await two.ask(path, body, at)
        assert plain(data) == plain(whole)
        assert len({json.loads(one).get("id") for one in data if one != "[DONE]"}) == 1
        assert two.hand_overs == (number, 0)
        await eventually(lambda taken=taken: two.second.engine.stats.finished == taken + 1)  # type: ignore[misc]
        now = await two.used()
        assert now.prompt - once.prompt == (once.prompt - before.prompt) * number
        assert now.completion - once.completion == (once.completion - before.completion) * number
    assert two.door.metric("vicuna_gateway_streams_continued_total") == 0
    assert two.door.metric("vicuna_gateway_streams_broken_total") == 0
    assert two.door.upstream.balancer.under_way == 0


async def _stays(two: Two, body: dict[str, Any], *then: str, stayed: int = 1) -> None:
    """The answer comes whole from the first server, and is counted once."""
    whole = await two.ask(CHAT, body, None)
    once, finished = await two.used(), two.first.engine.stats.finished
    assert plain(await two.ask(CHAT, body, 6, *then)) == plain(whole)
    now = await two.used()
    assert (now.prompt, now.completion) == (2 * once.prompt, 2 * once.completion)
    assert two.hand_overs == (0, stayed)
    await eventually(lambda: two.first.engine.stats.finished > finished)
    assert two.door.upstream.balancer.under_way == 0


async def test_a_stream_is_handed_over_after_each_of_its_events(scripted: Two) -> None:
    await _check(scripted, CHAT, chat(words=WORDS, **STREAM), range(1, 21))
    assert scripted.seen > 40  # so that the end is far, however many events come at once


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"seed": 5}])
async def test_what_a_model_says_is_the_same(fields: dict[str, Any], builtin: Two) -> None:
    body = chat(max_tokens=60, ignore_eos=True, **fields, **STREAM)
    await _check(builtin, CHAT, body, [1, 9, 20])


async def test_a_response_is_handed_over_with_all_that_its_last_events_repeat(
    scripted: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MOST_FRAME_BYTES", 1200)  # the last events are larger
    await _check(scripted, RESPONSES, {"model": "tiny", "input": WORDS, "stream": True}, (1, 2, 9, 40))


async def test_the_server_that_stops_is_left_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has nothing to do any more while the stream goes on."""
    async with _two(_scripted(tokens=10_000, rate=50), monkeypatch) as two:
        two.at, two.then = 5, (two.second.url,)
        two.door.route(two.first.url, model=AT_ONCE)
        async with two.door.client.stream("POST", CHAT, json=chat(words=WORDS, max_tokens=4000, **STREAM)) as response:
            lines = response.aiter_lines()
            while two.hand_overs != (1, 0):
                await anext(lines)
            await eventually(lambda: two.first.engine.stats.running == 0)
            assert two.second.engine.stats.running == 1
            assert two.door.upstream.accounting.under_way == 1
            assert two.door.upstream.demand.stated(lambda _: True) == (Demand("team", "tiny", 1, 0),)
            assert two.door.upstream.balancer.under_way == 1
            seen = two.seen
            while two.seen < seen + 5:
                await anext(lines)
        await eventually(lambda: two.second.engine.stats.running == 0)
        assert two.door.upstream.balancer.under_way == 0


def _prefer(door: Gateway, url: str) -> None:
    """Let an endpoint be picked before all others."""
    real = door.upstream.balancer.pick

    def pick(endpoints: Any, tried: Any, affinity: Any) -> Any:
        return real([one for one in endpoints if one.url == url and one not in tried] or endpoints, tried)

    door.upstream.balancer.pick = pick  # type: ignore[method-assign, assignment]


async def test_a_server_that_took_a_stream_over_may_be_lost(scripted: Two) -> None:
    body = chat(words=WORDS, **STREAM)
    whole = await scripted.ask(CHAT, body, None)
    async with severed(scripted.second.url, 5) as second, running(_scripted()[0], artifact="one") as third:
        _prefer(scripted.door, second.url)
        data = await scripted.ask(CHAT, body, 6, second.url, third.url)
    assert plain(data) == plain(whole)
    assert second.cut == 1
    assert scripted.hand_overs == (1, 0)
    assert scripted.door.metric("vicuna_gateway_streams_continued_total") == 1


async def test_what_a_server_has_stated_that_did_not_take_a_stream_is_not_told_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stated = head("text/event-stream"), chunk(_STATED)
    async with _two(_scripted(rate=100), monkeypatch) as two, faulty(*stated) as other:
        whole = await two.ask(CHAT, chat(words=WORDS, **STREAM), None)
        _prefer(two.door, other.url)
        data = await two.ask(CHAT, chat(words=WORDS, **STREAM), 6, other.url, two.second.url)
        assert plain(data) == plain(whole)
        assert two.hand_overs == (1, 1)


async def test_the_last_server_ends_its_streams_itself(scripted: Two) -> None:
    whole = await scripted.ask(CHAT, chat(words=WORDS, **STREAM), None)
    scripted.at, scripted.seen = 6, 0
    scripted.then = ()
    scripted.door.route(scripted.first.url, model=AT_ONCE)
    response = await scripted.door.client.post(CHAT, json=chat(words=WORDS, **STREAM))
    assert scripted.at is None
    assert plain(list(events(response.text))) == plain(whole)
    assert scripted.hand_overs == (0, 0)


@pytest.mark.parametrize("seconds", [None, 1000.0])
async def test_a_stream_stays_where_the_model_does_not_ask_for_more_or_not_yet(
    seconds: float | None, scripted: Two
) -> None:
    scripted.model = replace(TINY, hand_over_seconds=seconds)
    await _stays(scripted, chat(words=WORDS, **STREAM), stayed=0)
    assert scripted.second.engine.stats.finished == 1  # its start


@pytest.mark.parametrize("fields", [{"n": 2}, {"logprobs": True}])
async def test_what_cannot_go_on_stays(fields: dict[str, Any], scripted: Two) -> None:
    await _stays(scripted, chat(words=WORDS, **fields, **STREAM), stayed=0)


async def test_a_server_of_another_model_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _two(_scripted(), monkeypatch, "one", "two") as two:
        await _stays(two, chat(words=WORDS, **STREAM))


_EVENT = b'data: {"choices": []}\n\n'
_STATED = b': vicuna-tokens 7,7,7\n\n: vicuna {"usage":[50,50],"final":false}\n\n'
_TOKENS = b": vicuna-tokens " + b"1," * 9999 + b"1\n\n"
_FULL = b'{"error": {"message": "full", "type": "x", "param": null, "code": "full"}}'


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((), id="closes"),
        pytest.param((head("application/json", status="500 Broken", length=2), b"{}"), id="500"),
        pytest.param((head("application/json", status="429 Busy", length=len(_FULL)), _FULL), id="full"),
        pytest.param((head("application/json", status="200 OK", length=2), b"{}"), id="no stream"),
        pytest.param((head("text/html", length=2), b"{}"), id="not passed on"),
        pytest.param((head("text/event-stream"), chunk(_STATED + b": x\n\n")), id="only comments"),
        pytest.param((head("text/event-stream"), chunk(_STATED), chunk(b""), b"\r\n"), id="nothing"),
        pytest.param((head("text/event-stream"), chunk(_STATED + b'data: {"error": {"code": 429}}\n\n')), id="error"),
        pytest.param(
            (head("text/event-stream"), *[chunk(b": vicuna-tokens " + b"1," * 9999 + b"1\n\n")] * 99), id="many"
        ),
    ],
)
async def test_a_stream_stays_where_the_other_server_fails(pieces: Sequence[bytes], scripted: Two) -> None:
    """Nor does anything of what that server stated count."""
    async with faulty(*pieces) as other:
        await _stays(scripted, chat(words=WORDS, **STREAM), other.url)
        assert len(other.requests) == 1
        data = await scripted.ask(CHAT, chat(words=WORDS, **STREAM), 6, scripted.second.url)
        assert plain(data) == plain(await scripted.ask(CHAT, chat(words=WORDS, **STREAM), None))


async def test_a_server_that_was_full_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand_over, "BUSY_SECONDS", 0.0)
    full = head("application/json", status="429 Busy", length=len(_FULL)), _FULL
    async with _two(_scripted(tokens=10_000, rate=100), monkeypatch) as two, faulty(*full) as other:
        two.at, two.then = 5, (other.url,)
        two.door.route(two.first.url, model=AT_ONCE)
        async with two.door.client.stream("POST", CHAT, json=chat(words=WORDS, max_tokens=4000, **STREAM)):
            await eventually(lambda: len(other.requests) > 2)


async def test_a_stream_does_not_wait_long_for_another_server(scripted: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand_over, "PATIENCE", 0.05)
    async with faulty(hold=True) as other:
        await _stays(scripted, chat(words=WORDS, **STREAM), other.url)
        assert len(other.requests) == 1
        await other.gone.wait()


async def test_a_client_that_leaves_meanwhile_leaves_both(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _two(_scripted(tokens=10_000, rate=50), monkeypatch) as two, faulty(hold=True) as other:
        two.at, two.then = 5, (other.url,)
        two.door.route(two.first.url, model=AT_ONCE)
        async with two.door.client.stream("POST", CHAT, json=chat(words=WORDS, max_tokens=4000, **STREAM)):
            await eventually(lambda: len(other.requests) == 1)
        await other.gone.wait()
        await eventually(lambda: two.first.engine.stats.running == 0)
        await eventually(lambda: two.door.upstream.balancer.under_way == 0)


async def test_all_streams_of_a_server_move_at_once(scripted: Two) -> None:
    whole: dict[str, list[Any]] = {}
    for number in range(20):
        words = " ".join(f"{number}x{place}" for place in range(number + 5))
        whole[words] = plain(await scripted.ask(CHAT, chat(words=words, **STREAM), None))
    scripted.at, scripted.then, scripted.seen = 100, (scripted.second.url,), 0

    async def one(words: str) -> list[Any]:
        response = await scripted.door.client.post(CHAT, json=chat(words=words, **STREAM))
        return plain(list(events(response.text)))

    assert await asyncio.gather(*map(one, whole)) == list(whole.values())
    assert scripted.hand_overs[0] > 0


ENV = {
    "VICUNA_ENGINE": "scripted",
    "VICUNA_SCRIPTED_TOKENS": "4000",
    "VICUNA_SCRIPTED_TOKENS_PER_SECOND": "20",
    "VICUNA_DRAIN_SECONDS": "0",
}


async def test_a_process_that_is_told_to_stop_ends_long_before_its_streams(tmp_path: Path) -> None:
    folder = stream_artifact(tmp_path / "model")
    with ExitStack() as stack:
        servers = [stack.enter_context(served(folder, "--access-log", "off", **ENV)) for _ in range(2)]
        for server in servers:
            wait_ready(server)
        async with gateway() as door, asyncio.TaskGroup() as group:
            model = replace(TINY, served_name="m", hand_over_seconds=1.0)
            door.route(servers[0].url, model=model)
            texts = [[""] for _ in range(5)]
            readers = [group.create_task(_read(door, text)) for text in texts]
            await eventually(lambda: all(len(text) > 5 for text in texts))
            servers[0].process.send_signal(signal.SIGTERM)
            door.route(servers[1].url, model=model)
            await eventually(lambda: servers[0].process.poll() is not None)
            assert servers[0].process.returncode == 0
            seen = [len(text) for text in texts]
            await eventually(lambda: all(len(text) > before for text, before in zip(texts, seen, strict=True)))
            for reader in readers:
                assert not reader.done()
                reader.cancel()
        for text in texts:
            words = "".join(text).split()
            assert words == [str(number % 7) for number in range(len(words))]


async def _read(door: Gateway, text: list[str]) -> None:
    body = chat("m", " ".join(map(str, range(7))), stream=True, max_tokens=4000)
    async with door.client.stream("POST", CHAT, json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                (choice,) = json.loads(line[6:])["choices"]
                text += [choice["delta"].get("content", "")]
