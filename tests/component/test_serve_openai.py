"""The official openai client against a live server with the scripted engine."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from support.serving import MODEL, Running, running
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

HELLO: list[Any] = [{"role": "user", "content": "red green blue"}]


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running(ScriptedEngine(ScriptedSettings(tokens=5, context_length=50)), max_body_bytes=4000) as live:
        yield live


async def test_models(server: Running) -> None:
    listed = await server.client.models.list()
    assert [model.id for model in listed.data] == [MODEL]
    assert (await server.client.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai.NotFoundError):
        await server.client.models.retrieve("other")


async def test_a_whole_answer(server: Running) -> None:
    answer = await server.client.chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content == "red green blue red green "
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 6, 9)


async def test_a_streamed_answer_with_usage(server: Running) -> None:
    stream = await server.client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "red green blue red green "
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (3, 6)
    assert len({chunk.id for chunk in chunks}) == 1


async def test_the_stream_ends_with_done_and_has_no_usage_unasked(server: Running) -> None:
    async with httpx.AsyncClient() as http:
        response = await http.post(
            f"{server.url}/v1/chat/completions", json={"model": MODEL, "messages": HELLO, "stream": True}
        )
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("\n\ndata: [DONE]\n\n")
    assert '"usage"' not in response.text


async def test_limits_and_stop_strings(server: Running) -> None:
    ask = server.client.chat.completions.create
    short = await ask(model=MODEL, messages=HELLO, max_completion_tokens=2)
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("red green ", "length")
    assert short.usage is not None
    assert short.usage.completion_tokens == 2
    stopped = await ask(model=MODEL, messages=HELLO, stop=["n bl"])
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("red gree", "stop")


async def test_completions(server: Running) -> None:
    whole = await server.client.completions.create(model=MODEL, prompt="one two")
    assert whole.choices[0].text == "one two one two one "
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 6
    stream = await server.client.completions.create(model=MODEL, prompt="one two", stream=True, max_tokens=3)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "one two one "
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_errors_by_class(server: Running) -> None:
    ask = server.client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as unknown:
        await ask(model="gpt-4", messages=HELLO)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as too_hot:
        await ask(model=MODEL, messages=HELLO, temperature=9)
    assert too_hot.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match=r"context length is 50 tokens.*needs 103") as too_long:
        await ask(model=MODEL, messages=HELLO, max_tokens=100, stream=True)
    assert too_long.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/nope", b"", 404),
        ("GET", "/v1/chat/completions", b"", 405),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"x" * 5000, 413),
        ("POST", "/v1/completions", b"", 400),
    ],
)
async def test_every_error_has_openais_shape(
    method: str, path: str, content: bytes, status: int, server: Running
) -> None:
    async with httpx.AsyncClient() as http:
        response = await http.request(method, server.url + path, content=content)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert response.headers["x-vicuna-revision"] == "rev1"
    assert response.headers["x-request-id"]


async def test_a_body_without_announced_length_is_bounded_too(server: Running) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 1000

    async with httpx.AsyncClient() as http:
        response = await http.post(f"{server.url}/v1/chat/completions", content=endless())
    assert response.status_code == 413


async def test_request_ids_are_kept_when_harmless(server: Running) -> None:
    async with httpx.AsyncClient() as http:
        kept = await http.get(f"{server.url}/livez", headers={"x-request-id": "abc-1"})
        replaced = await http.get(f"{server.url}/livez", headers={"x-request-id": "a b"})
    assert kept.headers["x-request-id"] == "abc-1"
    assert replaced.headers["x-request-id"] != "a b"


async def test_metrics_count_requests_and_tokens(server: Running) -> None:
    await server.client.chat.completions.create(model=MODEL, messages=HELLO)
    async with httpx.AsyncClient() as http:
        await http.get(f"{server.url}/some/scanner/path")
        text = (await http.get(f"{server.url}/metrics")).text
    # The smoke test before readiness generated one token more.
    assert "vicuna_generated_tokens_total 7.0" in text
    assert 'vicuna_http_requests_total{route="/v1/chat/completions",status="200"} 1.0' in text
    assert "vicuna_time_to_first_token_seconds_count 1.0" in text
    assert "scanner" not in text
