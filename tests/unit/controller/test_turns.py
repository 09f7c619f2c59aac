"""Who may write to the API server first."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from vicuna_operator.kube.turns import Turns


@contextlib.asynccontextmanager
async def writing(turns: Turns, *kinds: str) -> AsyncIterator[list[str]]:
    """Begin writes that do not end by themselves; yields those that have had their turn, as they have it."""
    begun: list[str] = []

    async def write(kind: str) -> None:
        async with turns.turn(kind):
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


async def test_what_merges_and_serves_does_not_stand_behind_what_is_told() -> None:
    turns = Turns(ahead=4, behind=2)
    async with writing(turns, *["Event"] * 50, *["Service"] * 50, "VicunaModel") as told:
        assert told == ["Event"] * 2
        async with writing(turns, "Job", "Deployment", "PersistentVolumeClaim") as work:
            assert work == ["Job", "Deployment", "PersistentVolumeClaim"]
            async with writing(turns, *["Job"] * 20) as jobs:
                assert jobs == ["Job"]  # the fourth
                async with writing(turns, "Lease") as lease:
                    assert lease == ["Lease"]


@pytest.mark.parametrize("kinds", [["Event"] * 5, ["Job"] * 5])
async def test_every_turn_comes(kinds: list[str]) -> None:
    turns = Turns(ahead=1, behind=1)
    done: list[str] = []

    async def write(kind: str) -> None:
        async with turns.turn(kind):
            await asyncio.sleep(0)
            done.append(kind)

    async with asyncio.timeout(10):
        await asyncio.gather(*(write(kind) for kind in kinds))
    assert done == kinds


async def test_a_write_that_failed_or_was_cut_off_frees_its_place() -> None:
    turns = Turns(ahead=1, behind=1)
    with pytest.raises(RuntimeError):
        async with turns.turn("Event"):
            raise RuntimeError
    async with writing(turns, "Event", "Event") as begun:  # one is cut off under way, one while it waits
        assert begun == ["Event"]
    async with writing(turns, "Event") as begun:
        assert begun == ["Event"]


async def test_a_write_that_hangs_keeps_nobody_waiting_for_long() -> None:
    turns = Turns(behind=1, patience=0.01)
    async with asyncio.timeout(10), turns.turn("Service"), turns.turn("Event"):
        pass
    async with writing(Turns(behind=1, patience=60), "Service", "Event") as begun:
        assert begun == ["Service"]


async def test_a_place_given_back_early_is_not_given_back_twice() -> None:
    turns = Turns(behind=1, patience=0)
    async with turns.turn("Service"):
        await asyncio.sleep(0.01)
    turns.patience = 60
    async with writing(turns, "Event", "Event") as begun:
        assert begun == ["Event"]
