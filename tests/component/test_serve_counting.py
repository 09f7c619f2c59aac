"""A request that a gateway has named gets its counts; the response to any other has no extra byte."""

import asyncio
import json
import logging
import re
from typing import Any

import pytest

from support.counting import told
from support.gateway import chat
from support.serving import eventually, running
from vicuna_server.asgi.access_log import ACCESS_LOG
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

CHAT, COUNTS = "/v1/chat/completions", "/internal/counts"
NAME = "0123456789abcdef" * 2
NAMED = {"x-vicuna-counting": NAME}


def _engine(**settings: Any) -> ScriptedEngine:
    return ScriptedEngine(ScriptedSettings(**settings))


def _comments(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix(": vicuna ")) for line in text.split("\n") if line.startswith(": vicuna ")]


def _same(text: str) -> str:
    return re.sub(r"chatcmpl-[0-9a-f]+|\"created\":\d+", "", text)


@pytest.mark.parametrize("headers", [{}, {"x-vicuna-counting": "short"}, {"x-vicuna-counting": NAME.upper()}])
async def test_without_a_name_no_byte_changes(headers: dict[str, str]) -> None:
    async with running(_engine(tokens=5)) as server:
        body = chat(stream=True, stream_options={"include_usage": True})
        with_, without = [(await server.http.post(CHAT, json=body, headers=each)).text for each in (NAMED, headers)]
        assert not _comments(without)
        kept = "".join(part + "\n\n" for part in with_.split("\n\n")[:-1] if not part.startswith(": vicuna"))
        assert _same(kept) == _same(without)


async def test_the_comments_count_all_choices_and_grow_to_the_usage() -> None:
    async with running(_engine(tokens=20, tokens_per_second=15)) as server:
        body = chat(stream=True, n=3, stream_options={"include_usage": True})
        text = (await server.http.post(CHAT, json=body, headers=NAMED)).text
        comments, frames = _comments(text), text.split("\n\n")
        usage = json.loads(frames[-4].removeprefix("data: "))["usage"]
        assert frames[0].startswith(": vicuna")
        assert frames[-3].startswith(": vicuna")  # before [DONE]
        assert comments[-1] == {"usage": [usage["prompt_tokens"], usage["completion_tokens"]], "final": True}
        assert [one["usage"] for one in comments] == sorted(one["usage"] for one in comments)
        assert 3 <= len(comments) <= 5  # of 1.4 s
        assert not any(one["final"] for one in comments[:-1])
        assert (await server.http.get(COUNTS, headers=NAMED)).json() == comments[-1]
        assert list(await told(server)) == comments[-1]["usage"] == [3, 63]


async def test_whole_responses_vectors_and_refusals_are_counted_too() -> None:
    async with running(_engine(tokens=5)) as server:

        async def cost(number: int, path: str, body: dict[str, Any]) -> list[int]:
            name = {"x-vicuna-counting": f"{number:032x}"}
            await server.http.post(path, json=body, headers=name)
            counts: list[int] = (await server.http.get(COUNTS, headers=name)).json()["usage"]
            return counts

        assert await cost(1, CHAT, chat(n=2)) == [3, 12]
        assert await cost(2, "/v1/embeddings", {"model": "tiny", "input": ["a b", "c"]}) == [3, 0]
        read = {"model": "tiny", "prompt": "a b c", "max_tokens": 0, "echo": True, "logprobs": 1, "n": 2}
        assert await cost(3, "/v1/completions", read) == [3, 0]
        assert await cost(4, CHAT, chat(max_tokens=10**6)) == [0, 0]
        long = {"model": "tiny", "prompt": ["a", "b " * 5000]}
        assert await cost(5, "/v1/completions", long) == [0, 0]  # nothing of it is begun
        assert await cost(6, "/nothing", {}) == [0, 0]
        assert await told(server) == (9, 12)


async def test_a_question_waits_for_the_engine_and_one_about_nothing_is_not_found(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = _engine(tokens=10**6, tokens_per_second=100)
    async with running(engine) as server:
        smoke = engine.stats.generated_tokens
        with caplog.at_level(logging.INFO, ACCESS_LOG):
            asking = asyncio.create_task(server.http.post(CHAT, json=chat(), headers=NAMED))
            await eventually(lambda: engine.stats.running == 1)
            question = asyncio.create_task(server.http.get(COUNTS, headers=NAMED))
            await eventually(lambda: engine.stats.generated_tokens > smoke + 5)
            assert not question.done()
            asking.cancel()
            assert (await question).json()["usage"] == [3, engine.stats.generated_tokens - smoke]
            unknown = await server.http.get(COUNTS, headers={"x-vicuna-counting": "f" * 32})
            assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "request_unknown")
            assert (await server.http.get(COUNTS)).status_code == 404
        assert "/internal" not in (await server.http.get("/openapi.json")).text
        assert not [record for record in caplog.records if COUNTS in record.getMessage()]
