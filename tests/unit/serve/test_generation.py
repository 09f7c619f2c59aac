"""The stream of one generation: what is pushed is read in its order, sooner or later."""

import asyncio

import pytest

from vicuna_server.engine import Generation, OutputChunk
from vicuna_server.errors import EngineError


async def test_chunks_are_read_whether_they_were_there_before_or_are_waited_for() -> None:
    generation = Generation(3)
    generation.push(OutputChunk("a", 1))
    generation.push(OutputChunk("b", 2))
    read: list[str] = []

    async def run() -> None:
        read.extend([chunk.text async for chunk in generation])

    reading = asyncio.create_task(run())
    await asyncio.sleep(0)
    generation.push(OutputChunk("c", 3))
    generation.push(OutputChunk("d", 4, "stop"))
    generation.push(OutputChunk("behind the end", 5))
    await reading
    assert (read, generation.tokens, generation.over) == (["a", "b", "c", "d"], 4, True)
    with pytest.raises(StopAsyncIteration):
        await anext(generation)


async def test_a_reader_that_was_stopped_while_it_waited_loses_nothing() -> None:
    generation = Generation(3)
    waiting = asyncio.ensure_future(anext(generation))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    generation.push(OutputChunk("a", 1))
    generation.push(EngineError("GenerationFailed", "no more"))
    assert (await anext(generation)).text == "a"
    with pytest.raises(EngineError, match="no more"):
        await anext(generation)
