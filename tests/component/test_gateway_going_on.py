"""A stream whose server is lost goes on at another one: the client sees neither gap nor repetition."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.gateway import Gateway, chat, chunk, events, faulty, gateway, head, plain
from support.serving import Running, eventually, running, write_tiny_model
from support.severing import Severed, severed
from vicuna_contract.names import SALT_HEADER, STATE_HEADER
from vicuna_server.engine import Engine
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.gateway.keys import KeyRing, hash_of
from vicuna_server.protocol.counts import Used

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
RING = KeyRing.parse({"a": json.dumps({"sha256": hash_of("a"), "models": ["team/*"]}).encode()})
WORDS = " ".join(f"word{number}" for number in range(40))
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"n": {}}}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}, "maxItems": 9}}}


@dataclass
class Pair:
    """A gateway in front of two servers; requests go to the first, and its answers are cut."""

    door: Gateway
    first: Severed
    second: Severed
    servers: list[Running]
    order: list[str] = field(default_factory=list)

    async def ask(self, path: str, body: dict[str, Any], events: int | None = None, more: int = 0) -> list[str]:
        """Return the data of a stream's events; the first server is lost after so many of them."""
        self.first.events, self.first.more = events, more
        response = await self.door.client.post(path, json=body)
        assert response.status_code == 200, response.text
        assert ": vicuna" not in response.text
        return _data(response.text)


def _data(text: str) -> list[str]:
    return list(events(text))


def _error(data: Sequence[str]) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(data[-1] if data[-1] != "[DONE]" else data[-2])["error"]
    return error


@asynccontextmanager
async def _pair(engines: Sequence[Engine], *artifacts: str, **settings: Any) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        names = artifacts or ("one", "one")
        servers = [
            await stack.enter_async_context(running(engine, artifact=name, **settings))
            for engine, name in zip(engines, names, strict=True)
        ]
        first, second = [await stack.enter_async_context(severed(server.url)) for server in servers]
        door = await stack.enter_async_context(gateway())
        door.route(first.url, second.url)
        pair = Pair(door, first, second, servers)

        def pick(endpoints: Sequence[Endpoint], tried: Sequence[Endpoint], _: object) -> Endpoint | None:
            left = sorted((one for one in endpoints if one not in tried), key=lambda one: one.url == second.url)
            return left[0] if left else None

        door.upstream.balancer.pick = pick  # type: ignore[method-assign, assignment]
        yield pair


def _scripted() -> list[Engine]:
    return [ScriptedEngine(ScriptedSettings(tokens=30)) for _ in range(2)]


@pytest.fixture
async def scripted() -> AsyncIterator[Pair]:
    async with _pair(_scripted()) as pair:
        yield pair


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
async def builtin(folder: Path) -> AsyncIterator[Pair]:
    from vicuna_server.engine.builtin.engine import BuiltinEngine
    from vicuna_server.engine.settings import LoadSettings

    async with _pair([BuiltinEngine(LoadSettings(folder, dtype="float32")) for _ in range(2)]) as pair:
        yield pair


async def _counted(pair: Pair) -> Used:
    await eventually(lambda: pair.door.upstream.accounting.under_way == 0)
    return pair.door.upstream.accounting.used("", "team/tiny")


async def _check(pair: Pair, path: str, body: dict[str, Any], places: Sequence[tuple[int, int]]) -> None:
    """The answer is the same, wherever its server is lost; so is what is counted of it."""
    await pair.ask(path, body)  # the next one finds the prompt in the cache, as all others
    before = await _counted(pair)
    whole = await pair.ask(path, body)
    once = await _counted(pair)
    for number, (at, more) in enumerate(places, 1):
        data = await pair.ask(path, body, at, more)
        assert pair.first.cut == number
        assert plain(data) == plain(whole)
        assert len({json.loads(one).get("id") for one in data if one != "[DONE]"}) == 1
        now = await _counted(pair)
        assert now.prompt - once.prompt == (once.prompt - before.prompt) * number
        assert now.completion - once.completion == (once.completion - before.completion) * number
    assert pair.door.metric("vicuna_gateway_streams_continued_total") == len(places)
    assert pair.door.metric("vicuna_gateway_streams_broken_total") == 0


async def test_a_stream_goes_on_after_each_of_its_events(scripted: Pair) -> None:
    body = chat(words=WORDS, **STREAM)
    count = len(await scripted.ask(CHAT, body))
    assert count > 20
    await _check(scripted, CHAT, body, [(at, 0) for at in range(1, count - 1)])


async def test_an_event_that_came_in_part_comes_whole(scripted: Pair) -> None:
    await _check(scripted, TEXT, {"model": "tiny", "prompt": WORDS, **STREAM}, [(4, more) for more in range(0, 90, 7)])


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"seed": 5},
        {"seed": 5, "presence_penalty": 1.0, "top_p": 0.9},
        {"temperature": 0, "repetition_penalty": 1.2, "truncation": "auto"},
    ],
)
async def test_what_a_model_says_goes_on_byte_by_byte(fields: dict[str, Any], builtin: Pair) -> None:
    body = chat(max_tokens=60, ignore_eos=True, **fields, **STREAM)
    await _check(builtin, CHAT, body, [(1, 0), (2, 11), (9, 0), (20, 3)])


async def test_without_a_seed_what_was_drawn_is_not_drawn_anew(builtin: Pair) -> None:
    """The second server draws what the first one would have drawn, also what it has drawn and not delivered."""
    body = {"model": "tiny", "prompt": "x", "max_tokens": 60, "ignore_eos": True, **STREAM}
    data = await builtin.ask(TEXT, body, 5)
    (resumed,) = [one for one in builtin.second.asked if b'"begin"' in one]
    seed = json.loads(resumed[resumed.index(b'{"begin"') :])["begin"]["seed"]
    assert plain(data) == plain(await builtin.ask(TEXT, {**body, "seed": seed}))


async def test_a_stop_string_across_the_break(builtin: Pair) -> None:
    body = {"model": "tiny", "prompt": "x", "max_tokens": 60, "ignore_eos": True, "temperature": 0, **STREAM}
    texts = [one["choices"][0]["text"] for one in plain(await builtin.ask(TEXT, body))[:-1] if one["choices"]]
    stop = "".join(texts[20:24])
    assert stop
    assert len(stop) > 1
    await _check(builtin, TEXT, {**body, "stop": stop}, [(at, 0) for at in (3, 17, 18, 19)])


async def test_a_call_of_a_tool_across_the_break(scripted: Pair, builtin: Pair) -> None:
    for pair in (scripted, builtin):
        body = chat(words="look at it", tools=[TOOL], tool_choice="required", temperature=0, max_tokens=300, **STREAM)
        whole = plain(await pair.ask(CHAT, body))
        assert any("tool_calls" in one["choices"][0]["delta"] for one in whole[:-2])
        await _check(pair, CHAT, body, [(1, 0), (2, 5), (3, 0)])


async def test_a_schema_across_the_break(builtin: Pair) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    body = chat(response_format=form, seed=3, max_tokens=200, **STREAM)
    await _check(builtin, CHAT, body, [(1, 0), (3, 0), (6, 2)])


async def test_a_response_goes_on_after_each_of_its_events(scripted: Pair) -> None:
    body = {"model": "tiny", "input": WORDS, "stream": True}
    count = len(await scripted.ask(RESPONSES, body))
    assert count > 20
    await _check(scripted, RESPONSES, body, [(at, 0) for at in (1, 2, 3, 4, 5, *range(7, count - 1, 6), count - 2)])


async def test_a_response_goes_on_within_its_items(scripted: Pair, builtin: Pair) -> None:
    """All that is repeated at the end is as it was told before the break."""
    for pair in (scripted, builtin):
        tool = {"type": "function", "name": "look", "parameters": SCHEMA}
        body: dict[str, Any] = {"model": "tiny", "input": "look at it", "tools": [tool], "tool_choice": "required"}
        body |= {"stream": True, "temperature": 0, "max_output_tokens": 300}
        whole = plain(await pair.ask(RESPONSES, body))
        called = [number for number, one in enumerate(whole[:-1]) if "function_call_arguments" in one["type"]]
        assert called
        await _check(pair, RESPONSES, body, [(1, 0), (2, 5), (3, 0), (called[0], 0), (called[-1], 9)])


async def test_a_response_that_went_on_is_not_kept() -> None:
    """Its id names the server that was lost."""
    async with _pair(_scripted()) as pair:
        pair.door.authentication.ring = RING
        pair.door.client.headers["authorization"] = "Bearer a"
        body = {"model": "tiny", "input": WORDS, "stream": True}
        stores = [
            [json.loads(one)["response"]["store"] for one in data if '"response":{' in one]
            for data in (await pair.ask(RESPONSES, body), await pair.ask(RESPONSES, body, 6))
        ]
        assert stores == [[True, True, True], [True, True, False]]
        assert pair.first.cut == 1


async def test_a_response_to_what_its_server_keeps_ends_with_it() -> None:
    async with _pair(_scripted()) as pair:
        pair.door.authentication.ring = RING
        pair.door.client.headers["authorization"] = "Bearer a"
        asked = {"model": "tiny", "input": WORDS}
        kept = (await pair.door.client.post(RESPONSES, json=asked)).json()
        reference = [{"type": "item_reference", "id": kept["output"][0]["id"]}]
        for body in ({**asked, "previous_response_id": kept["id"]}, {**asked, "input": reference}):
            error = _error(await pair.ask(RESPONSES, {**body, "stream": True}, 6))
            assert "since it refers to what its server alone keeps; send the request again" in error["message"]
        assert pair.second.asked == []


async def test_a_stream_may_lose_two_servers_but_not_all(scripted: Pair) -> None:
    async with running(_scripted()[0], artifact="one") as third:
        body = chat(words=WORDS, **STREAM)
        whole = await scripted.ask(CHAT, body)
        scripted.second.events = 5  # of those that it sends itself
        scripted.door.route(scripted.first.url, scripted.second.url)
        assert _error(await scripted.ask(CHAT, body, 3))["code"] == "upstream_lost"
        assert scripted.door.metric("vicuna_gateway_streams_broken_total") == 1
        real = scripted.door.upstream.balancer.pick
        scripted.door.route(scripted.first.url, scripted.second.url, third.url)

        def pick(endpoints: Sequence[Endpoint], tried: Sequence[Endpoint], affinity: Any) -> Endpoint | None:
            both = [one for one in endpoints if one.url != third.url]
            return real(both, tried, affinity) or next((one for one in endpoints if one not in tried), None)

        scripted.door.upstream.balancer.pick = pick  # type: ignore[method-assign, assignment]
        assert plain(await scripted.ask(CHAT, body, 3)) == plain(whole)
        assert scripted.second.cut == 2


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"n": 2}, "it has several choices"), ({"logprobs": True}, "it has log probabilities")],
)
async def test_what_cannot_go_on_ends_with_an_error_that_says_why(
    fields: dict[str, Any], why: str, scripted: Pair
) -> None:
    error = _error(await scripted.ask(CHAT, chat(words=WORDS, **fields, **STREAM), 6))
    assert error["code"] == "upstream_lost"
    assert f"no other server goes on with it, since {why}; send the request again" in error["message"]
    assert scripted.second.asked == []


_COMMENT = b": keep-alive\n\n"
_STATED = b': vicuna-state {"key": "other"}\n\n: vicuna-tokens 7,7\n\n: vicuna {"usage":[500,9],"final":false}\n\n'


@pytest.mark.parametrize("fields", [{}, {"n": 2}])
@pytest.mark.parametrize("said", [_COMMENT, _STATED + _COMMENT, _COMMENT + b": vicuna-tokens 7\n\n" + _COMMENT])
async def test_before_its_first_event_a_stream_begins_anew(said: bytes, fields: dict[str, Any], scripted: Pair) -> None:
    """Comments keep a client's connection alive while a long prompt is computed."""
    body = chat(words=WORDS, **fields, **STREAM)
    whole = await scripted.ask(CHAT, body)
    used = await _counted(scripted)
    async with faulty(head("text/event-stream"), chunk(said)) as lost:
        scripted.door.route(lost.url, scripted.second.url)
        scripted.second.events = None if fields else 9
        async with running(_scripted()[0], artifact="one") as third:
            real = scripted.door.upstream.balancer.pick

            def pick(endpoints: Sequence[Endpoint], tried: Sequence[Endpoint], affinity: Any) -> Endpoint | None:
                first = [one for one in endpoints if one.url == lost.url and one not in tried]
                rest = [one for one in endpoints if one.url != third.url]
                return next(iter(first), None) or real(rest, tried, affinity) or real(endpoints, tried, affinity)

            scripted.door.upstream.balancer.pick = pick  # type: ignore[method-assign, assignment]
            scripted.door.route(lost.url, scripted.second.url, third.url)
            response = await scripted.door.client.post(CHAT, json=body)
            assert ": keep-alive" in response.text
            assert ": vicuna" not in response.text
            assert plain(_data(response.text)) == plain(whole)
            assert len(lost.requests) == 1
            assert scripted.second.cut == (0 if fields else 1), "what it began goes on elsewhere too"
            assert (await _counted(scripted)).completion == 2 * used.completion


@pytest.mark.parametrize("artifacts", [("one", "two"), ("one", ""), ("", "")])
async def test_servers_of_different_models_do_not_go_on_with_each_other(artifacts: tuple[str, str]) -> None:
    async with _pair(_scripted(), *artifacts) as pair:
        data = await pair.ask(CHAT, chat(words=WORDS, **STREAM), 6)
        assert _error(data)["code"] == "upstream_lost"
        assert len(data) == 7
        assert pair.door.metric("vicuna_gateway_streams_continued_total") == 0


async def test_a_server_of_another_context_does_not_go_on() -> None:
    other = ScriptedEngine(ScriptedSettings(tokens=30, context_length=2048))
    async with _pair([_scripted()[0], other]) as pair:
        assert _error(await pair.ask(CHAT, chat(words=WORDS, **STREAM), 6))["code"] == "upstream_lost"


async def test_a_client_can_neither_ask_nor_tell(scripted: Pair) -> None:
    forged = b'{"begin":{},"events":0,"seconds":0,"tokens":[]}'
    body = json.dumps(chat(words=WORDS, **STREAM)).encode()
    headers = {"content-type": "application/json", STATE_HEADER: str(len(forged))}
    response = await scripted.door.client.post(CHAT, content=body + forged, headers=headers)
    assert response.status_code == 400  # its state is a part of the body, which is no JSON then
    response = await scripted.door.client.post(CHAT, content=body, headers=headers)
    assert response.status_code == 200
    assert ": vicuna" not in response.text
    assert STATE_HEADER.encode() + b": 0" in scripted.first.asked[-1].lower()


@pytest.mark.parametrize("state", [b"{}", b"[]", b"nonsense", b'{"begin":{"key":"x"},"events":-1}'])
async def test_a_server_refuses_a_state_that_is_none(state: bytes, scripted: Pair) -> None:
    body = json.dumps(chat(words=WORDS, **STREAM)).encode()
    headers = {"content-type": "application/json", STATE_HEADER: str(len(state))}
    response = await scripted.servers[0].http.post(CHAT, content=body + state, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "state_broken"
    for size in ("-1", "x", "99999999999", str(2**30)):
        response = await scripted.servers[0].http.post(CHAT, content=body, headers={**headers, STATE_HEADER: size})
        assert response.json()["error"]["code"] == "state_broken"


async def test_a_server_that_is_not_asked_states_nothing(scripted: Pair) -> None:
    server = scripted.servers[0].http
    assert ": vicuna" not in (await server.post(CHAT, json=chat(words=WORDS, **STREAM))).text
    salt = {SALT_HEADER: "s" * 43}
    body: dict[str, Any] = {"model": "tiny", "input": WORDS}
    kept = (await server.post(RESPONSES, json=body, headers=salt)).json()
    body |= {"previous_response_id": kept["id"], "stream": True}
    response = await server.post(RESPONSES, json=body, headers=salt)
    assert response.status_code == 200
    assert ": vicuna" not in response.text


async def test_many_streams_lose_their_server_at_once(scripted: Pair) -> None:
    dice = random.Random(1)
    whole: dict[str, list[Any]] = {}
    for number in range(20):
        words = " ".join(f"{number}x{place}" for place in range(dice.randint(5, 40)))
        whole[words] = plain(await scripted.ask(CHAT, chat(words=words, **STREAM)))
    scripted.first.events = 4

    async def one(words: str) -> list[Any]:
        return plain(_data((await scripted.door.client.post(CHAT, json=chat(words=words, **STREAM))).text))

    assert await asyncio.gather(*map(one, whole)) == list(whole.values())
    assert scripted.first.cut == 20
