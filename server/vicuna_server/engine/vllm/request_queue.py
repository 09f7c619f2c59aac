"""The queue in front of vLLM: as many requests run as are allowed, and the others wait in the order of their coming."""

import asyncio

from vicuna_server.engine.stats import EngineStats
from vicuna_server.engine.vllm.progress import Progress

__all__ = ["QueueEntry", "RequestQueue"]


class RequestQueue:
    """The queue of one engine.

    Args:
        max_running: Requests that run at once.
        stats: Gauges to keep.
        progress: Told how many run.
    """

    def __init__(self, max_running: int, stats: EngineStats, progress: Progress) -> None:
        self._free = asyncio.Semaphore(max_running)
        self._stats = stats
        self._progress = progress

    def enter(self) -> "QueueEntry":
        """Take in a request, which waits from now on; its entry is released in any case."""
        self._stats.waiting += 1
        return QueueEntry(self)

    async def begin(self) -> None:
        """Wait until one of those that wait may run."""
        await self._free.acquire()
        self._stats.waiting -= 1
        self._stats.running += 1
        self._progress.begin()

    def end(self) -> None:
        """One that ran is over: let the next run."""
        self._progress.end()
        self._stats.running -= 1
        self._free.release()

    def leave(self) -> None:
        """One that waited waits no more."""
        self._stats.waiting -= 1


class QueueEntry:
    """One request in the queue: it waits, or it runs."""

    def __init__(self, queue: RequestQueue) -> None:
        self._queue = queue
        self._runs = False

    async def begin(self) -> None:
        """Wait until the request may run."""
        await self._queue.begin()
        self._runs = True

    def release(self) -> None:
        """Take the request out."""
        if self._runs:
            self._queue.end()
        else:
            self._queue.leave()
