"""One asyncio task per model: the level-triggered reconcile loop, woken by events."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from vicuna_contract.backoff import Backoff
from vicuna_operator.controller.snapshot import Key
from vicuna_operator.errors import KubeError

__all__ = ["LoopTiming", "Loops"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopTiming:
    """All in seconds."""

    floor: float = 0.2  # between the starts of two passes of one model
    error_floor: float = 1.0  # the same after a failed pass, however many events come
    backoff: float = 1.0  # at most, after the first failed pass without an event; doubles
    backoff_max: float = 60.0
    resync: float = 300.0  # longest time between two passes, with 10 % of jitter
    pass_timeout: float = 180.0


@dataclass
class _Loop:
    backoff: Backoff
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    pass_started: float | None = None


class Loops:
    """Starts, wakes and ends the loops.

    Args:
        exists: tells whether a model is (still) there; a loop ends when it is not.
        work: one pass. It returns after how many seconds it is to be called again, None: only on an event.
            Whatever it raises is logged, and the pass is repeated.
        on_gone: called with the key of a model that is gone.
        on_pass: called with the seconds of every pass, and whether it `failed`.
    """

    def __init__(
        self,
        exists: Callable[[Key], bool],
        work: Callable[[Key], Awaitable[float | None]],
        *,
        on_gone: Callable[[Key], None] = lambda _: None,
        on_pass: Callable[..., None] = lambda *_, **__: None,
        timing: LoopTiming | None = None,
    ) -> None:
        self._on_pass = on_pass
        self._exists = exists
        self._work = work
        self._on_gone = on_gone
        self._timing = timing or LoopTiming()
        self._loops: dict[Key, _Loop] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._loops)

    def wake(self, key: Key) -> None:
        """Let a model's loop make a pass soon, starting the loop where there is none; returns at once."""
        loop = self._loops.get(key)
        if loop is None and not self._closed and self._exists(key):
            loop = self._loops[key] = _Loop(Backoff(self._timing.backoff, self._timing.backoff_max))
            loop.task = asyncio.create_task(self._run(key, loop), name=f"reconcile {key[0]}/{key[1]}")
        if loop is not None:
            loop.wake.set()

    async def close(self) -> None:
        """Cancel all loops and wait until none of them can write any more."""
        self._closed = True
        tasks = [loop.task for loop in self._loops.values() if loop.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loops.clear()

    def longest_pass(self) -> float:
        """Return how long the oldest running pass has been running, in seconds."""
        now = time.monotonic()
        running = (loop.pass_started for loop in self._loops.values() if loop.pass_started is not None)
        return max((now - started for started in running), default=0.0)

    async def _run(self, key: Key, loop: _Loop) -> None:
        while self._exists(key):
            loop.wake.clear()
            floor, delay = await self._pass(key, loop)
            await asyncio.sleep(floor)
            await _woken(loop.wake, delay - floor)
        # No await since `exists` was asked, so that no event is lost.
        del self._loops[key]
        self._on_gone(key)

    async def _pass(self, key: Key, loop: _Loop) -> tuple[float, float]:
        """Make one pass; return for how many seconds to ignore events, and for how many to wait for one."""
        timing = self._timing
        loop.pass_started = time.monotonic()
        try:
            async with asyncio.timeout(timing.pass_timeout):
                again = await self._work(key)
        except Exception as error:  # a loop that ended would ignore its model for ever
            self._on_pass(time.monotonic() - loop.pass_started, failed=True)
            delay = loop.backoff.next()
            floor = timing.error_floor
            if isinstance(error, KubeError | TimeoutError):
                retry_after = error.retry_after if isinstance(error, KubeError) else None
                floor = max(floor, min(retry_after or 0.0, timing.backoff_max))
                message = str(error) or "the pass took too long"
                logger.warning("%s/%s: %s; next try within %.0f s", *key, message, delay)
            else:
                logger.exception("%s/%s: the pass failed; next try within %.0f s", *key, delay)
            return floor, max(delay, floor)
        finally:
            spent = time.monotonic() - loop.pass_started
            loop.pass_started = None
        self._on_pass(spent, failed=False)
        loop.backoff.reset()
        resync_after = timing.resync * random.uniform(0.9, 1.1)  # noqa: S311  # jitter, not a secret
        delay = resync_after if again is None else min(again, resync_after)
        floor = max(0.0, timing.floor - spent)
        return floor, max(delay, floor)


async def _woken(wake: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but no longer than this."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()
