"""Ratios, questions, and the processor time of a load."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

from support.bench import bench_module

asking = bench_module("asking")
processes = bench_module("processes")
WORK = "import time\nwhile time.process_time() < {seconds}: pass"
# A process whose child works and ends, and whose second child works and stays until its input ends.
FAMILY = """
import subprocess, sys
run = [sys.executable, "-c"]
sys.stdin.readline()
subprocess.run([*run, {work!r}])
stays = subprocess.Popen([*run, {work!r} + "\\nprint('worked', flush=True)\\nimport time\\ntime.sleep(60)"])
sys.stdin.readline()
"""


def sample(speed: float, processor: float = 0.1, first: float = 1.0) -> Any:
    return asking.Sample(speed, [first], processor)


def test_a_ratio_is_the_median_over_rounds_not_that_of_medians() -> None:
    ours, theirs = [sample(10), sample(30), sample(20)], [sample(10), sample(10), sample(40)]
    assert asking.ratio(ours, theirs, lambda one: one.speed) == 1.0


def test_a_ratio_to_less_than_a_tick_of_processor_time_is_infinite() -> None:
    assert asking.ratio([sample(1, 0.1)], [sample(1, 0.0)], lambda one: one.processor) == float("inf")


def test_questions_of_contenders_that_share_an_engine_are_not_the_same_and_equally_long() -> None:
    first, second = (asking.question(3, 4, place)[0]["content"] for place in (0, 1))
    assert first != second
    assert len(first) == len(second)


@pytest.mark.long
async def test_children_count_those_that_have_ended_too() -> None:
    work = WORK.format(seconds=0.3)
    pipe = asyncio.subprocess.PIPE
    root = await asyncio.create_subprocess_exec(sys.executable, "-c", FAMILY.format(work=work), stdin=pipe, stdout=pipe)
    assert root.stdin is not None
    assert root.stdout is not None
    before = processes.processor_seconds(processes.tree(root.pid))
    root.stdin.write(b"\n")
    assert await root.stdout.readline() == b"worked\n"
    family = processes.tree(root.pid)
    used = processes.processor_seconds(family) - before
    alone = sum(psutil.Process(root.pid).cpu_times()[:2])
    for one in family:
        one.kill()
    await root.wait()
    assert used >= 0.58  # clock ticks are 10 ms
    assert used > alone
    assert processes.tree(root.pid) == []


class Speaker:
    """A contender that says `text` in two pieces; its processor time is foretold."""

    name = "speaker"

    def __init__(self, text: str) -> None:
        self.text = text

    def processes(self) -> list[Any]:
        return []

    async def stream(self, http: Any, messages: Any, tokens: int) -> AsyncIterator[str]:
        yield self.text
        yield self.text


async def test_a_load_tells_processor_time_for_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((5.0, 8.0))
    monkeypatch.setattr(asking, "processor_seconds", lambda _: next(times))
    asked = [asking.question(index, 0, 0) for index in range(3)]
    found = await asking.load(None, Speaker("ab"), len, asked, 4)
    assert found.processor == pytest.approx(3.0 / 12)
    assert len(found.first) == 3


async def test_a_contender_that_says_nothing_is_told() -> None:
    with pytest.raises(SystemExit, match="speaker answered without a word"):
        await asking.load(None, Speaker(""), len, [asking.question(0, 0, 0)], 4)
