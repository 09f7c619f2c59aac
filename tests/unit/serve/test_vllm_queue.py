"""Who runs and who waits in front of vLLM, and how what is in flight is ended."""

import asyncio

import pytest

from vicuna_server.engine.scope import EVERYBODY, CacheScope
from vicuna_server.engine.stats import EngineStats
from vicuna_server.engine.vllm.in_flight import InFlight
from vicuna_server.engine.vllm.progress import Progress
from vicuna_server.engine.vllm.request_queue import RequestQueue
from vicuna_server.errors import EngineError


async def test_as_many_run_as_are_allowed_and_the_others_in_the_order_of_their_coming() -> None:
    stats, progress = EngineStats(), Progress()
    queue = RequestQueue(1, stats, progress)
    entries = [queue.enter(EVERYBODY) for _ in range(3)]
    assert (stats.running, stats.waiting) == (0, 3)
    await entries[0].begin()
    second, third = (asyncio.ensure_future(entry.begin()) for entry in entries[1:])
    await asyncio.sleep(0)
    assert (stats.running, stats.waiting, progress.running) == (1, 2, 1)

    entries[0].release()
    await second
    assert not third.done()
    entries[1].release()
    await third
    entries[2].release()
    assert (stats.running, stats.waiting, progress.running) == (0, 0, 0)


async def test_one_that_gives_up_waiting_takes_nobodys_turn() -> None:
    stats = EngineStats()
    queue = RequestQueue(1, stats, Progress())
    first, second, third = (queue.enter(EVERYBODY) for _ in range(3))
    await first.begin()
    waits = asyncio.ensure_future(second.begin())
    await asyncio.sleep(0)
    waits.cancel()
    await asyncio.wait([waits])
    second.release()
    assert (stats.running, stats.waiting) == (1, 1)
    first.release()
    await third.begin()
    assert (stats.running, stats.waiting) == (1, 0)


async def test_callers_take_turns_and_one_place_in_eight_is_kept_from_the_one_that_has_all_others() -> None:
    stats = EngineStats()
    queue = RequestQueue(8, stats, Progress())
    greedy = [queue.enter(CacheScope(caller="greedy")) for _ in range(20)]
    waits = [asyncio.ensure_future(entry.begin()) for entry in greedy]
    await asyncio.sleep(0)
    assert [entry.runs for entry in greedy] == [True] * 7 + [False] * 13

    other = [queue.enter(CacheScope(caller="other")) for _ in range(3)]
    await asyncio.wait_for(other[0].begin(), 1)
    waits += [asyncio.ensure_future(entry.begin()) for entry in other[1:]]
    await asyncio.sleep(0)
    assert not other[1].runs
    greedy[0].release()
    assert (other[1].runs, greedy[7].runs) == (True, False), "who holds less comes first"
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)


async def test_requests_of_unknown_callers_may_take_all_places() -> None:
    queue = RequestQueue(8, EngineStats(), Progress())
    entries = [queue.enter(EVERYBODY) for _ in range(8)]
    await asyncio.wait_for(asyncio.gather(*(entry.begin() for entry in entries)), 1)


async def test_what_is_stopped_raises_the_reason_and_what_is_cancelled_its_cancellation() -> None:
    in_flight, never = InFlight(), asyncio.Event()
    stopped = asyncio.ensure_future(in_flight.result(never.wait()))
    await asyncio.sleep(0)
    assert len(in_flight.stop_all(EngineError("EngineHung", "it hangs"))) == 1
    with pytest.raises(EngineError, match="it hangs"):
        await stopped

    cancelled = asyncio.ensure_future(in_flight.result(never.wait()))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await asyncio.sleep(0)
    assert in_flight.stop_all(EngineError("EngineHung", "it hangs")) == []


async def test_what_work_gives_is_passed_on_and_is_not_in_flight_any_more() -> None:
    in_flight = InFlight()
    assert await in_flight.result(asyncio.sleep(0, "text")) == "text"
    assert in_flight.stop_all(EngineError("EngineStopped", "it stops")) == []


async def test_what_has_time_waits_for_the_others_of_its_caller() -> None:
    queue = RequestQueue(1, EngineStats(), Progress())
    running, later, soon = (queue.enter(CacheScope(flex=flex)) for flex in (False, True, False))
    await running.begin()
    waits = [asyncio.ensure_future(entry.begin()) for entry in (later, soon)]
    await asyncio.sleep(0)
    running.release()
    await asyncio.wait_for(waits[1], 1)
    assert (soon.runs, later.runs) == (True, False)
    soon.release()
    await asyncio.wait_for(waits[0], 1)
