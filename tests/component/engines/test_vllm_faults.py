"""A server in front of vLLM, when that starts late, hangs, dies, drains, or has enough; over HTTP."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from support.engines import FAKE, REAL, VllmProcess, free_port, real_vllm, running_real, vllm_process
from support.serving import MODEL, Running, eventually, running, write_tiny_model
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.engine.vllm.engine import VllmEngine
from vicuna_server.engine.vllm.settings import VllmSettings
from vicuna_server.errors import InputError

HUNG_SECONDS = {FAKE: 1.0, REAL: 10.0}
HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", context=1024, heads=1)


@pytest.fixture(scope="module", params=[FAKE, pytest.param(REAL, marks=[pytest.mark.timeout(900), pytest.mark.full])])
def server(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VllmProcess]:
    if request.param == REAL and (not real_vllm() or running_real()):
        pytest.skip("VICUNA_VLLM does not name the bin folder of an environment with vLLM")
    speed = {"FAKE_VLLM_TOKENS": "10000", "FAKE_VLLM_TOKENS_PER_SECOND": "100"}
    log = tmp_path_factory.mktemp("vllm") / "vllm.log"
    with vllm_process(request.param, folder, log, **speed) as server:
        yield server


@pytest.fixture
def vllm(server: VllmProcess) -> VllmProcess:
    """A server that may be hurt; where the last test has ended it, it is started anew."""
    if server.running.poll() is not None:
        server.start()
    return server


@asynccontextmanager
async def fronted(
    server: VllmProcess, *, wait: bool = True, drained: Path | None = None, **load: Any
) -> AsyncIterator[Running]:
    """Serve in front of a vLLM server."""
    settings = VllmSettings(server.url, drained, HUNG_SECONDS[server.kind], look_seconds=0.1, health_seconds=2.0)
    engine = VllmEngine(LoadSettings(server.folder, **{"max_concurrency": 8, **load}), settings)
    async with running(engine, wait=wait) as front:
        yield front


async def status(front: Running, path: str) -> int:
    return (await front.http.get(path)).status_code


async def until(front: Running, path: str, wanted: int, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while await status(front, path) != wanted:  # noqa: ASYNC110  # a probe has no event
            await asyncio.sleep(0.05)


async def chat(front: Running, tokens: int = 900, **options: Any) -> Any:
    return await front.client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=tokens, extra_body={"ignore_eos": True}, **options
    )


async def test_streams_end_with_an_error_when_it_is_killed_and_it_is_back_when_it_has_been_started_again(
    vllm: VllmProcess,
) -> None:
    async with fronted(vllm) as front:
        stream = await chat(front, stream=True)
        await anext(aiter(stream))
        vllm.kill()
        with pytest.raises(openai.APIError, match=r"lost in the middle|while it generated|was complete"):
            async for _ in stream:
                pass
        await until(front, "/readyz", 503)
        assert [await status(front, path) for path in ("/livez", "/enginez")] == [200, 200]
        for whole in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                await chat(front, stream=not whole)
            assert (caught.value.status_code, caught.value.code) == (503, "engine_unavailable")
            assert caught.value.response.headers["retry-after"] == "1"
        await asyncio.to_thread(vllm.start)
        await until(front, "/readyz", 200, 60.0)
        assert (await chat(front, 3)).usage.completion_tokens == 3
        stats = front.engine.stats
        assert (stats.running, stats.waiting) == (0, 0)


async def test_its_dead_engine_process_is_seen(vllm: VllmProcess) -> None:
    async with fronted(vllm) as front:
        stream = await chat(front, stream=True)
        await anext(aiter(stream))
        vllm.signal_cores(signal.SIGKILL)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass
        await until(front, "/readyz", 503, 60.0)
        assert await status(front, "/enginez") == 200  # it ends by itself
        assert await asyncio.to_thread(vllm.running.wait, 120) == 0  # which is why an exit code says nothing


async def test_streams_end_with_an_error_when_it_hangs_and_it_is_back_when_it_moves(
    vllm: VllmProcess, tmp_path: Path
) -> None:
    drained = tmp_path / "drained"
    async with fronted(vllm, drained=drained) as front:
        stream = await chat(front, stream=True)
        await anext(aiter(stream))
        vllm.signal_cores(signal.SIGSTOP)
        try:
            with pytest.raises(openai.APIError, match="hangs"):
                async for _ in stream:
                    pass
            assert vllm.is_up()  # its own health says nothing of it
            assert [await status(front, path) for path in ("/enginez", "/readyz", "/livez")] == [503, 503, 200]
            assert drained.exists()  # its container may be stopped at once
        finally:
            vllm.signal_cores(signal.SIGCONT)
        await until(front, "/readyz", 200, 60.0)
        assert await status(front, "/enginez") == 200
        assert not drained.exists()
        assert (await chat(front, 3)).usage.completion_tokens == 3


async def test_a_process_that_does_not_answer_at_all_hangs_too(vllm: VllmProcess) -> None:
    async with fronted(vllm) as front:
        vllm.running.send_signal(signal.SIGSTOP)
        try:
            await until(front, "/enginez", 503, 60.0)
        finally:
            vllm.running.send_signal(signal.SIGCONT)
        await until(front, "/readyz", 200, 60.0)


async def test_what_its_drain_refuses_can_be_asked_of_another_server(vllm: VllmProcess) -> None:
    async with fronted(vllm) as front:
        streams = [await chat(front, 300, stream=True) for _ in range(3)]
        for stream in streams:
            await anext(aiter(stream))
        vllm.running.send_signal(signal.SIGTERM)
        await eventually(lambda: _drains(vllm))
        with pytest.raises(openai.InternalServerError) as caught:
            await chat(front, 3)
        assert caught.value.status_code == 503
        counts = [len([chunk async for chunk in one if chunk.choices[0].delta.content is not None]) for one in streams]
        assert min(counts) > 100
        assert await asyncio.to_thread(vllm.running.wait, 120) == 0


def _drains(server: VllmProcess) -> bool:
    body = {"model": str(server.folder), "prompt": [1, 2], "max_tokens": 1}
    try:
        return httpx.post(f"{server.url}/v1/completions", json=body, timeout=20).status_code == 500
    except httpx.TransportError:
        return True


async def test_a_client_that_leaves_stops_it(vllm: VllmProcess) -> None:
    async with fronted(vllm) as front:
        async with asyncio.timeout(60):
            stream = await chat(front, stream=True)
            await anext(aiter(stream))
            whole = asyncio.create_task(chat(front))
            await eventually(lambda: front.engine.stats.running == 2)
            await stream.close()
            whole.cancel()
            await eventually(lambda: front.engine.stats.running == 0)
            while await asyncio.to_thread(vllm.gauge, "vllm:num_requests_running"):  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.05)
        assert front.engine.stats.cancelled == 2


@pytest.fixture
def fake(folder: Path, tmp_path: Path) -> Iterator[VllmProcess]:
    server = VllmProcess(FAKE, folder, tmp_path / "vllm.log", free_port())
    yield server
    server.kill()


async def test_a_late_server_is_waited_for(fake: VllmProcess) -> None:
    async with fronted(fake, wait=False) as front:
        await until(front, "/livez", 200)
        assert [await status(front, path) for path in ("/readyz", "/enginez")] == [503, 200]
        with pytest.raises(openai.InternalServerError) as caught:
            await chat(front, 3)
        assert (caught.value.status_code, caught.value.code) == (503, "loading")
        fake.start(wait=False)
        await until(front, "/readyz", 200)
        assert (await chat(front, 3)).usage.completion_tokens == 3


async def test_too_small_a_context_is_said_before_a_request_fails_of_it(fake: VllmProcess) -> None:
    fake.flags = ("--max-model-len", "64")
    fake.start()
    engine = VllmEngine(LoadSettings(fake.folder, context_length=128), VllmSettings(fake.url))
    with pytest.raises(InputError, match="128 tokens is wanted, but the vllm engine serves 64") as caught:
        await engine.load()
    await engine.close()
    assert caught.value.reason == "ContextLengthTooLarge"
    engine = VllmEngine(LoadSettings(fake.folder), VllmSettings(fake.url))
    await engine.load()
    assert engine.context_length == 64
    await engine.close()


async def test_an_overflow_there_is_a_503_here_although_its_status_is_200(fake: VllmProcess) -> None:
    fake.flags, fake.environment = ("--max-num-queued-reqs", "1"), {"FAKE_VLLM_TOKENS_PER_SECOND": "50"}
    fake.start()
    async with fronted(fake) as front:
        stream = await chat(front, stream=True)
        await anext(aiter(stream))
        for whole in (False, True):
            with pytest.raises(openai.InternalServerError, match="too many queued") as caught:
                await chat(front, 3, stream=not whole)
            assert caught.value.status_code == 503
        await stream.close()


async def test_its_metrics_stand_beside_ours(fake: VllmProcess) -> None:
    fake.start()
    async with fronted(fake) as front:
        await chat(front, 3)
        text = (await front.http.get("/metrics")).text
        assert "\nvllm:generation_tokens_total{" in text
        assert "\nvicuna_generated_tokens_total 4.0\n" in text  # with the one of the start
        assert "\nvicuna_kv_cache_capacity_tokens 16000.0\n" in text
        assert "python_gc" not in text
        fake.kill()
        await until(front, "/readyz", 503)
        text = (await front.http.get("/metrics")).text
        assert "\nvicuna_ready 0.0\n" in text
        assert "vllm:" not in text


async def test_a_weights_folder_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"vocab_size": 10}')
    engine = VllmEngine(LoadSettings(tmp_path), VllmSettings("http://127.0.0.1:1"))
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        await engine.load()
    await engine.close()
