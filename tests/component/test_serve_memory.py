"""Memory after thousands of cancelled streams: it comes to rest (`make test-full`)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.serving import write_tiny_model

PROGRAM = """
import asyncio, gc, sys
from pathlib import Path
import psutil
from vicuna_server.engine import ChatPrompt, GenerationRequest
from vicuna_server.engine.builtin.loading import LoadSettings
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.prompts import Message

async def main():
    engine = BuiltinEngine(LoadSettings(Path(sys.argv[1]), dtype=sys.argv[2], kv_cache_memory=2**28))
    await engine.load()
    places = asyncio.Semaphore(20)

    async def cancelled(number):
        async with places:
            prompt = ChatPrompt((Message("user", "Tell a very long story" + " again" * (number % 60) + str(number)),))
            async with await engine.submit(GenerationRequest(prompt, max_tokens=2000)) as answer:
                if number % 3:
                    await anext(answer)

    for turn in range(4):
        await asyncio.gather(*(cancelled(number) for number in range(500)))
        while engine.stats.running + engine.stats.waiting:
            await asyncio.sleep(0.05)
        gc.collect()
        print(psutil.Process().memory_info().rss // 2**20, flush=True)
    await engine.close()

asyncio.run(main())
"""


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_after_cancelled_streams_comes_to_rest(dtype: str, tmp_path: Path) -> None:
    """500 of them, four times over; a process of its own, since others' kernels would count as well."""
    folder = write_tiny_model(tmp_path / "model")
    words = [sys.executable, "-c", PROGRAM, str(folder), dtype]
    done = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 0, done.stderr
    first, *later = map(int, done.stdout.split())
    print(f"{dtype}: resident {first}, then {later} MiB")
    assert max(later) <= first + 64, done.stdout
