"""Requests whose response would be too large are refused at once; streams consist of small events."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from support.gateway import events, gateway
from support.serving import MODEL, Running, running
from vicuna_server.engine import Embedding, Generation, GenerationRequest
from vicuna_server.engine.scope import EVERYBODY, CacheScope
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.protocol import response_size

HELLO = [{"role": "user", "content": "red green blue"}]
CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"


class Wide(ScriptedEngine):
    """Has vectors as long as a 13B model's, and keeps count of what it is asked to compute."""

    asked = 0

    @property
    def embedding_size(self) -> int:
        return 5120

    async def submit(self, request: GenerationRequest) -> Generation:
        self.asked += 1
        return await super().submit(request)

    async def embed(self, prompts: Sequence[str | tuple[int, ...]], scope: CacheScope = EVERYBODY) -> list[Embedding]:
        del scope
        self.asked += 1
        return [Embedding([1 / 3] * 8, 1) for _ in prompts]


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    engine = Wide(ScriptedSettings(tokens=5, context_length=1_000_000))
    async with running(engine) as live:
        engine.asked = 0  # a server tries its engine before it is ready
        yield live


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        (CHAT, {"n": 16, "max_tokens": 3200, "logprobs": True, "top_logprobs": 20}, "16 * 3200 * 21 = 1075200"),
        (CHAT, {"n": 16, "max_completion_tokens": 3200, "logprobs": True, "top_logprobs": 20}, "(1 + top_logprobs)"),
        (CHAT, {"max_tokens": 600_000}, "max_tokens to 524288"),
        (PLAIN, {"prompt": ["a"] * 64, "max_tokens": 400, "logprobs": 20}, "(1 + logprobs)"),
        (PLAIN, {"prompt": ["a"] * 4, "n": 16, "max_tokens": 9000}, "64 * 9000 * 1"),
        (PLAIN, {"prompt": "x" * 2**20, "n": 16, "echo": True, "max_tokens": 1, "stream": True}, None),
        (PLAIN, {"prompt": "é" * 2**20, "n": 16, "echo": True, "max_tokens": 1}, "echo: the prompts, 16 times each"),
        ("/v1/embeddings", {"input": ["a"] * 2048}, "at most 545 inputs fit"),
    ],
)
async def test_a_response_that_may_become_too_large_is_not_begun(
    server: Running, path: str, fields: dict[str, Any], words: str | None
) -> None:
    conversation = {"messages": HELLO} if path == CHAT else {}
    response = await server.http.post(path, json={"model": MODEL, **conversation, **fields})
    engine = server.engine
    assert isinstance(engine, Wide)
    if words is None:
        assert response.status_code == 200
        return
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (400, "answer_too_large", "invalid_request_error")
    assert error["param"] in ("max_tokens", "echo", "input")
    assert words in error["message"]
    assert engine.asked == 0


async def test_the_same_works_as_a_stream_or_in_base64(server: Running) -> None:
    large = {"n": 16, "max_tokens": 3200, "logprobs": True, "top_logprobs": 20, "stream": True}
    response = await server.http.post(CHAT, json={"model": MODEL, "messages": HELLO, **large})
    assert events(response.text)[-1] == "[DONE]"
    embeddings = {"model": MODEL, "input": ["a"] * 2048, "encoding_format": "base64"}
    assert (await server.http.post("/v1/embeddings", json=embeddings)).status_code == 200


async def test_without_max_tokens_a_completion_ends_at_the_limit(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_size, "MAX_ENTRIES", 2 * 2 * 21)
    fields = {"model": MODEL, "messages": HELLO, "n": 2, "logprobs": True, "top_logprobs": 20}
    whole = (await server.http.post(CHAT, json=fields)).json()["choices"]
    assert [(one["finish_reason"], len(one["logprobs"]["content"])) for one in whole] == [("length", 2)] * 2
    streamed = (await server.http.post(CHAT, json={**fields, "stream": True})).text
    assert streamed.count('"finish_reason":"stop"') == 2


async def test_a_long_prompt_is_repeated_in_events_that_a_gateway_passes_on(server: Running) -> None:
    prompt = "\x01é" * 400_000
    fields = {"model": MODEL, "prompt": prompt, "echo": True, "stream": True, "max_tokens": 1}
    async with gateway() as door:
        door.route(server.url)
        response = await door.client.post(PLAIN, json=fields)
    parts = events(response.text)
    assert parts[-1] == "[DONE]"
    assert "".join(json.loads(part)["choices"][0]["text"] for part in parts[:-1]).startswith(prompt)
    assert max(map(len, response.content.split(b"\n\n"))) < 256 * 2**10
