"""What a server states of a stream, and how it goes on with another's."""

import json
from dataclasses import replace
from typing import Any

import pytest

from vicuna_server.api.continuation import Continuation, StreamReport, key_of
from vicuna_server.engine import GenerationRequest, OutputChunk
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.engine.vllm.completion import why_off
from vicuna_server.errors import RequestError
from vicuna_server.protocol.stream_state import StreamState

REQUEST = GenerationRequest("hello", time_limit=60.0)
IDENT = "chatcmpl-" + "0" * 24


@pytest.fixture
async def engine() -> ScriptedEngine:
    return ScriptedEngine(ScriptedSettings())


def _came(key: str = "k", *, events: int = 3, **fields: Any) -> StreamState:
    begin = {"key": key, "id": IDENT, "created": 9, "seed": 4, "cached": 7}
    state = {"begin": begin, "events": events, "seconds": 5.0, "tokens": [1, 2], **fields}
    return StreamState.model_validate_json(json.dumps(state))


def _chunks(*ids: int) -> list[OutputChunk]:
    return [OutputChunk("x", number, ids=(token,)) for number, token in enumerate(ids, 1)]


async def test_a_stream_without_a_seed_gets_one_that_is_stated(engine: ScriptedEngine) -> None:
    continuation = Continuation(asked=True)
    first = continuation.prepared(REQUEST, engine, "k", choices=1)
    assert first.seed is not None
    assert continuation.envelope("chatcmpl", "tiny").ident != IDENT
    report = StreamReport(continuation, lambda: 11)
    report.take(_chunks(5)[0])
    state, tokens, rest = report.next().split(b"\n\n")
    said = json.loads(state.removeprefix(b": vicuna-state "))
    assert (said["seed"], said["key"], said["cached"]) == (first.seed, "k", 11)
    assert (tokens, rest) == (b": vicuna-tokens 5", b"")
    assert report.next() == b""
    again = Continuation(asked=True).prepared(REQUEST, engine, "k", choices=1)
    assert again.seed != first.seed


@pytest.mark.parametrize("request_", [replace(REQUEST, seed=8), replace(REQUEST, temperature=0.0)])
async def test_a_seed_stays_and_a_greedy_answer_needs_none(request_: GenerationRequest, engine: ScriptedEngine) -> None:
    assert Continuation(asked=True).prepared(request_, engine, "k", choices=1) == request_


async def test_it_goes_on_with_what_the_other_server_stated(engine: ScriptedEngine) -> None:
    continuation = Continuation(asked=True, state=_came())
    wanted = continuation.prepared(REQUEST, engine, "k", choices=1)
    assert (wanted.seed, wanted.generated, wanted.time_limit) == (4, (1, 2), 55.0)
    envelope = continuation.envelope("chatcmpl", "tiny")
    assert (envelope.ident, envelope.created) == (IDENT, 9)
    late = Continuation(asked=True, state=_came(seconds=1e6))
    assert late.prepared(REQUEST, engine, "k", choices=1).time_limit == 1.0


@pytest.mark.parametrize(
    ("key", "choices", "fields"), [("other", 1, {}), ("", 1, {}), ("k", 2, {}), ("k", 1, {"logprobs": 0})]
)
async def test_it_refuses_what_it_cannot_go_on_with(
    key: str, choices: int, fields: dict[str, Any], engine: ScriptedEngine
) -> None:
    with pytest.raises(RequestError) as caught:
        Continuation(asked=True, state=_came()).prepared(replace(REQUEST, **fields), engine, key, choices=choices)
    assert (caught.value.status, caught.value.code) == (409, "continuation_refused")


async def test_why_no_other_server_can_is_stated_once(engine: ScriptedEngine) -> None:
    continuation = Continuation(asked=True)
    assert continuation.prepared(REQUEST, engine, "k", choices=2) == REQUEST
    report = StreamReport(continuation, lambda: 0)
    report.take(_chunks(5)[0])
    assert report.next() == b': vicuna-state {"off":"choices"}\n\n'
    assert report.next() == b""


async def test_nobody_who_does_not_ask_is_told_anything(engine: ScriptedEngine) -> None:
    continuation = Continuation()
    assert continuation.prepared(REQUEST, engine, "k", choices=1) == REQUEST
    report = StreamReport(continuation, lambda: 0)
    report.take(_chunks(5)[0])
    assert (report.next(), report.passed(4)) == (b"", 0)


async def test_known_tokens_are_not_stated_again_and_known_events_not_sent_again(engine: ScriptedEngine) -> None:
    continuation = Continuation(asked=True, state=_came())
    continuation.prepared(REQUEST, engine, "k", choices=1)
    report = StreamReport(continuation, lambda: 0)
    assert [report.passed(count) for count in (2, 2, 2)] == [2, 1, 0]
    for chunk in _chunks(1, 2, 30, 40):
        report.take(chunk)
    state, tokens, _ = report.next().split(b"\n\n")
    assert json.loads(state.removeprefix(b": vicuna-state "))["cached"] == 7  # what the first server stated
    assert tokens == b": vicuna-tokens 30,40"


async def test_the_key_names_artifact_and_engine(engine: ScriptedEngine) -> None:
    other = ScriptedEngine(ScriptedSettings(context_length=8))
    assert key_of("", engine) == ""
    assert key_of("a", engine) == key_of("a", ScriptedEngine(ScriptedSettings()))
    assert len({key_of("a", engine), key_of("b", engine), key_of("a", other)}) == 3


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, ""),
        ({"seed": 1, "temperature": 0.0}, ""),
        ({"seed": 1}, "seed"),
        ({"presence_penalty": 0.5}, "counting"),
        ({"frequency_penalty": -0.5}, "counting"),
        ({"bad_words": ("x",)}, "counting"),
        ({"repetition_penalty": 1.5}, ""),
    ],
)
def test_what_vllm_does_not_go_on_with(fields: dict[str, Any], why: str) -> None:
    assert why_off(replace(REQUEST, **fields)) == why
