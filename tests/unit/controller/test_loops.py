import asyncio
import logging

import pytest

from vicuna_operator.controller.loops import Loops, LoopTiming
from vicuna_operator.errors import UnavailableError

KEY = ("ns", "m")
FAST = LoopTiming(floor=0.01, error_floor=0.01, backoff=0.01, backoff_max=0.05, resync=60.0, pass_timeout=0.2)


class World:
    """Models that exist, and a script of what each pass does."""

    def __init__(self, timing: LoopTiming = FAST) -> None:
        self.alive = {KEY}
        self.passes = 0
        self.gone: list[tuple[str, str]] = []
        self.ended = asyncio.Event()
        self.script: list[object] = []
        self.changed = asyncio.Condition()
        self.loops = Loops(self.alive.__contains__, self.work, on_gone=self.forget, timing=timing)

    def forget(self, key: tuple[str, str]) -> None:
        self.gone.append(key)
        self.ended.set()

    async def work(self, key: tuple[str, str]) -> float | None:
        step = self.script.pop(0) if self.script else None
        self.passes += 1
        async with self.changed:
            self.changed.notify_all()
        if isinstance(step, Exception):
            raise step
        if isinstance(step, asyncio.Event):
            await step.wait()
            return None
        return step  # type: ignore[return-value]

    async def until(self, passes: int) -> None:
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: self.passes >= passes)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_first_event_makes_a_pass_at_once_and_a_storm_only_one_more() -> None:
    world = World()
    world.loops.wake(KEY)
    await settled()
    assert world.passes == 1
    for _ in range(100):
        world.loops.wake(KEY)
    await world.until(2)
    await asyncio.sleep(0.05)
    assert world.passes == 2
    await world.loops.close()


async def test_an_event_during_a_pass_is_not_lost() -> None:
    world = World()
    hold = asyncio.Event()
    world.script = [hold]
    world.loops.wake(KEY)
    await world.until(1)
    world.loops.wake(KEY)
    hold.set()
    await world.until(2)
    await world.loops.close()


async def test_what_the_plan_asks_for_is_called_again_without_an_event() -> None:
    world = World()
    world.script = [0.02, None]
    world.loops.wake(KEY)
    await world.until(2)
    await world.loops.close()


async def test_a_pass_without_an_event_after_the_resync_time() -> None:
    world = World(LoopTiming(floor=0.0, resync=0.02))
    world.loops.wake(KEY)
    await world.until(3)
    await world.loops.close()


async def test_survives_an_exception_storm_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.script = [UnavailableError("500")] * 5 + [ValueError("a bug")] + [None]
    with caplog.at_level(logging.WARNING):
        world.loops.wake(KEY)
        await world.until(7)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 5 + ["ERROR"]
    assert caplog.records[0].exc_info is None  # a failing API is logged without a traceback
    world.loops.wake(KEY)
    await world.until(8)
    await world.loops.close()


async def test_an_event_wakes_a_loop_that_backs_off() -> None:
    world = World(LoopTiming(floor=0.0, error_floor=0.0, backoff=60.0))
    world.script = [UnavailableError("500")]
    world.loops.wake(KEY)
    await settled()
    assert world.passes == 1
    world.loops.wake(KEY)
    await world.until(2)
    await world.loops.close()


async def test_retry_after_is_honoured_even_when_events_pour_in() -> None:
    world = World(LoopTiming(floor=0.0, error_floor=0.0, backoff=0.0))
    world.script = [UnavailableError("429", 429, retry_after=60.0)]
    world.loops.wake(KEY)
    await settled()
    for _ in range(10):
        world.loops.wake(KEY)
        await settled()
    assert world.passes == 1
    await world.loops.close()


async def test_a_hanging_pass_is_cut_off() -> None:
    world = World()
    world.script = [asyncio.Event()]
    world.loops.wake(KEY)
    await world.until(2)
    await world.loops.close()


async def test_longest_pass_tells_of_a_stuck_one() -> None:
    world = World(LoopTiming())
    assert world.loops.longest_pass() == 0.0
    world.script = [asyncio.Event()]
    world.loops.wake(KEY)
    await world.until(1)
    await asyncio.sleep(0.02)
    assert world.loops.longest_pass() >= 0.02
    await world.loops.close()
    assert world.loops.longest_pass() == 0.0


async def test_ends_when_the_model_is_gone_and_starts_anew_when_it_is_back() -> None:
    world = World()
    world.loops.wake(KEY)
    await world.until(1)
    world.alive.clear()
    world.loops.wake(KEY)
    async with asyncio.timeout(5):
        await world.ended.wait()
    assert world.gone == [KEY]
    world.loops.wake(KEY)
    assert len(world.loops) == 0  # a late event of a child starts nothing
    world.alive.add(KEY)
    world.loops.wake(KEY)
    await world.until(2)
    await world.loops.close()


async def test_nothing_runs_or_starts_after_close() -> None:
    world = World()
    world.script = [asyncio.Event()]
    world.loops.wake(KEY)
    await world.until(1)
    await world.loops.close()
    world.loops.wake(KEY)
    await settled()
    assert world.passes == 1
    assert len(world.loops) == 0
