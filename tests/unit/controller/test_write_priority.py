"""Who may write to the API server first."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from vicuna_operator.kube.write_priority import WritePriority


@contextlib.asynccontextmanager
async def writing(priority: WritePriority, *kinds: str) -> AsyncIterator[list[str]]:
    """Begin writes that do not end by themselves; yields those that have had their turn, as they have it."""
    begun: list[str] = []

    async def write(kind: str) -> None:
        async with priority.slot(kind):
            begun.append(kind)
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(write(kind)) for kind in kinds]
    await settled()
    try:
        yield begun
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_merges_and_serves_does_not_wait_behind_the_rest() -> None:
    priority = WritePriority(high=4, low=2)
    async with writing(priority, *["Event"] * 50, *["Service"] * 50, "VicunaModel") as told:
        assert told == ["Event"] * 2
        async with writing(priority, "Job", "Deployment", "PersistentVolumeClaim") as work:
            assert work == ["Job", "Deployment", "PersistentVolumeClaim"]
            async with writing(priority, *["Job"] * 20) as jobs:
                assert jobs == ["Job"]  # the fourth
                async with writing(priority, "Lease") as lease:
                    assert lease == ["Lease"]


@pytest.mark.parametrize("kinds", [["Event"] * 5, ["Job"] * 5])
async def test_every_turn_comes(kinds: list[str]) -> None:
    priority = WritePriority(high=1, low=1)
    done: list[str] = []

    async def write(kind: str) -> None:
        async with priority.slot(kind):
            await asyncio.sleep(0)
            done.append(kind)

    async with asyncio.timeout(10):
        await asyncio.gather(*(write(kind) for kind in kinds))
    assert done == kinds


async def test_a_write_that_failed_or_was_cut_off_frees_its_place() -> None:
    priority = WritePriority(high=1, low=1)
    with pytest.raises(RuntimeError):
        async with priority.slot("Event"):
            raise RuntimeError
    async with writing(priority, "Event", "Event") as begun:  # one is cut off under way, one while it waits
        assert begun == ["Event"]
    async with writing(priority, "Event") as begun:
        assert begun == ["Event"]


async def test_a_write_that_hangs_keeps_nobody_waiting_for_long() -> None:
    priority = WritePriority(low=1, count_seconds=0.01)
    async with asyncio.timeout(10), priority.slot("Service"), priority.slot("Event"):
        pass
    async with writing(WritePriority(low=1, count_seconds=60), "Service", "Event") as begun:
        assert begun == ["Service"]


async def test_a_place_given_back_early_is_not_given_back_twice() -> None:
    priority = WritePriority(low=1, count_seconds=0)
    async with priority.slot("Service"):
        await asyncio.sleep(0.01)
    priority.count_seconds = 60
    async with writing(priority, "Event", "Event") as begun:
        assert begun == ["Event"]
