"""What encodes prompts: one after the other, and it is known when one hangs."""

import asyncio
import threading
import time
from functools import partial

import pytest

from support.serving import eventually
from vicuna_server.engine.encoding_thread import EncodingThread
from vicuna_server.errors import EngineError


async def test_calls_run_in_one_thread_in_their_order() -> None:
    thread, order = EncodingThread(), list[tuple[int, str]]()

    def call(number: int) -> int:
        order.append((number, threading.current_thread().name))
        return number

    assert await asyncio.gather(*(thread.run(partial(call, number)) for number in range(5))) == [*range(5)]
    assert order == [(number, "encode") for number in range(5)]
    assert (thread.waiting, thread.hung) == (0, False)
    with pytest.raises(ValueError, match="literal"):
        await thread.run(lambda: int("x"))
    thread.close()


async def test_a_hung_call_is_reported_to_all_who_wait() -> None:
    release, thread = threading.Event(), EncodingThread(hung_seconds=0.2)
    waiting = [asyncio.create_task(thread.run(call)) for call in (release.wait, lambda: True, lambda: True)]
    await asyncio.sleep(0)
    assert not thread.hung
    for one in waiting:
        with pytest.raises(EngineError, match="has been encoded for more than"):
            await one
    assert thread.hung
    assert thread.waiting == 0
    with pytest.raises(EngineError, match="has been encoded for more than"):
        await thread.run(lambda: True)
    release.set()
    await eventually(lambda: not thread.hung)
    assert await thread.run(lambda: "well again") == "well again"
    thread.close()


async def test_a_long_queue_does_not_count_as_a_hung_call() -> None:
    thread = EncodingThread(hung_seconds=2.0)
    await asyncio.gather(*(thread.run(lambda: time.sleep(0.05)) for _ in range(60)))
    thread.close()


async def test_a_cancelled_call_is_not_run() -> None:
    release, thread, ran = threading.Event(), EncodingThread(), list[int]()
    first = asyncio.create_task(thread.run(release.wait))
    second = asyncio.create_task(thread.run(lambda: ran.append(1)))
    await asyncio.sleep(0)
    assert thread.waiting == 2
    second.cancel()
    await asyncio.sleep(0.01)
    assert thread.waiting == 1
    release.set()
    await first
    await thread.run(lambda: None)
    assert ran == []
    thread.close()
