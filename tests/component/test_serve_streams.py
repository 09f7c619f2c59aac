"""Many clients at once, clients that leave, clients that do not read, and limits on time and number."""

import asyncio
import json
import logging
from typing import Any

import httpx
import openai
import pytest

from support.serving import MODEL, NO_TLS, Running, eventually, running
from vicuna_server.asgi.access_log import ACCESS_LOG
from vicuna_server.engine import Generation, GenerationRequest
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.errors import EngineError

HELLO: list[Any] = [{"role": "user", "content": "red green"}]
ENDLESS = ScriptedSettings(tokens=10**9, tokens_per_second=500, context_length=10**9)


async def open_stream(live: Running) -> openai.AsyncStream[Any]:
    stream = await live.client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    await anext(aiter(stream))
    return stream


async def test_streams_progress_side_by_side() -> None:
    async with running(ScriptedEngine(ENDLESS)) as live:
        first, second = await open_stream(live), await open_stream(live)
        for _ in range(5):  # each gives more while the other is open
            await anext(aiter(first))
            await anext(aiter(second))
        assert live.engine.stats.running == 2
        await first.close()
        await second.close()


async def test_a_client_that_does_not_read_stalls_no_other() -> None:
    fast = ScriptedSettings(tokens=10**9, context_length=10**9)
    async with running(ScriptedEngine(fast)) as live:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port, limit=1024)
        body = json.dumps({"model": MODEL, "messages": HELLO, "stream": True}).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await reader.readline()
        answer = await live.client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=50)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 50
        assert live.engine.stats.running == 1
        writer.transport.abort()
        await eventually(lambda: live.engine.stats.running == 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_its_generation(stream: bool) -> None:
    async with running(ScriptedEngine(ENDLESS)) as live:
        stats = live.engine.stats
        asking = asyncio.create_task(
            live.client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream, timeout=60)
        )
        if stream:
            response = await asking
            assert isinstance(response, openai.AsyncStream)
            await response.close()
        else:
            await eventually(lambda: stats.running == 1)
            asking.cancel()
        await eventually(lambda: stats.cancelled == 1)
        generated = stats.generated_tokens
        # Another request runs to its end meanwhile: the one that was left gets no token more.
        await live.client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=20)
        assert stats.generated_tokens == generated + 20
        assert stats.running == 0


async def test_the_log_tells_the_tokens_of_a_stream_that_was_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=ACCESS_LOG)
    async with running(ScriptedEngine(ENDLESS)) as live:
        stream = await open_stream(live)
        await anext(aiter(stream))
        await stream.close()
        await eventually(lambda: any(record.name == ACCESS_LOG for record in caplog.records))
    (line,) = (json.loads(record.getMessage()) for record in caplog.records if record.name == ACCESS_LOG)
    assert line["usage"]["prompt_tokens"] == 2
    assert line["usage"]["completion_tokens"] >= 1


async def test_more_than_may_run_wait_and_more_than_may_wait_get_429() -> None:
    # The head of a stream that waits comes with its first comment.
    async with running(ScriptedEngine(ENDLESS, max_concurrency=1), keepalive_seconds=0.05) as live:
        ask = live.client.chat.completions.create
        streams = [await ask(model=MODEL, messages=HELLO, stream=True) for _ in range(5)]
        await eventually(lambda: live.engine.stats.running == 1)
        assert live.engine.stats.waiting == 4
        with pytest.raises(openai.RateLimitError) as caught:
            await ask(model=MODEL, messages=HELLO)
        assert int(caught.value.response.headers["retry-after"]) >= 1
        await streams[2].close()  # a waiting client that leaves makes room
        await eventually(lambda: live.engine.stats.waiting == 3)
        await streams[0].close()  # and the next in line begins
        async for chunk in streams[1]:
            if chunk.choices[0].delta.content:
                break
        assert live.engine.stats.running == 1
        for stream in streams:
            await stream.close()


async def test_a_completion_that_takes_too_long_ends_with_length() -> None:
    async with running(ScriptedEngine(ENDLESS), max_stream_seconds=0.1) as live:
        answer = await live.client.chat.completions.create(model=MODEL, messages=HELLO)
        assert answer.choices[0].finish_reason == "length"


async def test_a_silent_stream_gets_comments() -> None:
    slow = ScriptedSettings(tokens=1, tokens_per_second=2)
    async with running(ScriptedEngine(slow), keepalive_seconds=0.05) as live, httpx.AsyncClient(verify=NO_TLS) as http:
        response = await http.post(
            f"{live.url}/v1/chat/completions", json={"model": MODEL, "messages": HELLO, "stream": True}
        )
    assert ": keep-alive\n\n" in response.text
    assert response.text.endswith("data: [DONE]\n\n")


class _Breaking(ScriptedEngine):
    """Fails every request but the smoke test after its first piece of text."""

    async def submit(self, request: GenerationRequest) -> Generation:
        generation = await super().submit(request)
        if request.max_tokens != 1:
            generation.push(EngineError("GenerationFailed", 'the model broke: "quoted"'))
            generation.cancel()
            generation._ended = False  # its failure is still to be read
        return generation


async def test_a_failure_in_mid_stream_reaches_the_client_as_an_error() -> None:
    async with running(_Breaking(ENDLESS)) as live:
        stream = await live.client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match='the model broke: "quoted"'):
            async for _ in stream:
                pass
        with pytest.raises(openai.InternalServerError) as caught:
            await live.client.chat.completions.create(model=MODEL, messages=HELLO)
        assert caught.value.code == "GenerationFailed"
        await eventually(lambda: live.engine.stats.running == 0)


async def test_before_the_model_is_loaded() -> None:
    loading = ScriptedEngine(ScriptedSettings(load_seconds=3600))
    async with running(loading, wait=False) as live, httpx.AsyncClient(verify=NO_TLS) as http:
        assert (await http.get(f"{live.url}/livez")).status_code == 200
        assert (await http.get(f"{live.url}/readyz")).status_code == 503
        with pytest.raises(openai.InternalServerError) as caught:
            await live.client.chat.completions.create(model=MODEL, messages=HELLO)
        assert (caught.value.status_code, caught.value.code) == (503, "loading")
