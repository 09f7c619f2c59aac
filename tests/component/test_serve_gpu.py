"""What only a CUDA device can show: placement, caps, quantization, and memory that runs out under one request."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch

from support.serving import write_tiny_model
from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.builtin.loading import LoadSettings, load_model
from vicuna_server.errors import EngineError

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(GPUS == 0, reason="needs a CUDA device: make test-gpu on a machine that has one"),
]
PROMPTS = ["a", "Hello there, how are you?", "x" * 300, "1 2 3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
async def engine(folder: Path) -> AsyncIterator[BuiltinEngine]:
    subject = BuiltinEngine(settings(folder, dtype="float32"))
    await subject.load()
    yield subject
    await subject.close()


def settings(folder: Path, **options: Any) -> LoadSettings:
    return LoadSettings(folder, **{"device": "cuda", "num_gpus": 1, "kv_cache_memory": 256 * 2**20, **options})


async def answer(engine: BuiltinEngine, prompt: str) -> list[int]:
    asked = GenerationRequest(prompt, max_tokens=16, temperature=0.0, logprobs=0)
    return [one.token_id async for delta in await engine.submit(asked) for one in delta.token_logprobs]


async def test_in_float32_a_gpu_gives_the_cpus_tokens_alone_and_in_company(engine: BuiltinEngine, folder: Path) -> None:
    cpu = BuiltinEngine(LoadSettings(folder, dtype="float32", kv_cache_memory=256 * 2**20))
    await cpu.load()
    wanted = [await answer(cpu, prompt) for prompt in PROMPTS]
    await cpu.close()
    assert [await answer(engine, prompt) for prompt in PROMPTS] == wanted
    assert list(await asyncio.gather(*(answer(engine, prompt) for prompt in PROMPTS))) == wanted


def test_half_precision_is_the_default(folder: Path) -> None:
    loaded = load_model(settings(folder))
    assert loaded.placement.dtype is torch.float16
    assert {layer.type for layer in loaded.decoder.shape.layers} == {"cuda"}


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
async def test_quantized_weights_answer(quantization: str, folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    engine = BuiltinEngine(settings(folder, quantization=quantization))
    await engine.load()
    answers = await asyncio.gather(*(answer(engine, prompt) for prompt in PROMPTS))
    await engine.close()
    assert all(answers)
    assert engine.stats.failed == 0


@pytest.mark.skipif(GPUS < 2, reason="needs two CUDA devices")
async def test_layers_are_spread_over_the_gpus(folder: Path) -> None:
    cap = (folder / "model.safetensors").stat().st_size * 3 // 4  # neither holds all
    engine = BuiltinEngine(settings(folder, num_gpus=2, dtype="float32", max_gpu_memory=cap))
    await engine.load()
    assert len(set(engine.loaded.decoder.shape.layers)) == 2
    assert all(await asyncio.gather(*(answer(engine, prompt) for prompt in PROMPTS)))
    await engine.close()


def test_weights_above_the_cap_are_refused_with_the_numbers(folder: Path) -> None:
    with pytest.raises(EngineError, match=r"KiB|MiB|GiB") as caught:
        load_model(settings(folder, max_gpu_memory=4096))
    assert caught.value.reason == "OutOfMemory"


def test_more_gpus_than_there_are_is_refused(folder: Path) -> None:
    with pytest.raises(EngineError, match=f"{GPUS} are visible") as caught:
        load_model(settings(folder, num_gpus=GPUS + 1))
    assert caught.value.reason == "DeviceUnavailable"


async def test_memory_that_runs_out_fails_one_request_only(engine: BuiltinEngine) -> None:
    before = await answer(engine, "short")
    torch.cuda.empty_cache()
    filler, size = [], torch.cuda.mem_get_info()[0]
    while size >= 2**10:  # every last piece of what is left
        try:
            filler.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            size //= 2
    with pytest.raises(EngineError) as caught:
        await answer(engine, "x" * 3000)
    assert caught.value.reason == "OutOfMemory"
    filler.clear()
    torch.cuda.empty_cache()
    assert await answer(engine, "short") == before
    assert engine.stats.failed == 1
