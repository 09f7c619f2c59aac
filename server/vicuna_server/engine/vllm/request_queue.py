"""The queue in front of vLLM: as many requests run as are allowed, and the others wait for their turn."""

import asyncio
from collections import Counter

from vicuna_server.engine.scope import CacheScope
from vicuna_server.engine.stats import EngineStats
from vicuna_server.engine.turns import first_turn
from vicuna_server.engine.vllm.progress import Progress

__all__ = ["QueueEntry", "RequestQueue"]

_ONE_IN = 8
"""One place in so many is kept free of the caller that has all others: what runs in vLLM is not taken back."""


class RequestQueue:
    """The queue of one engine.

    Args:
        max_running: Requests that run at once.
        stats: Gauges to keep.
        progress: Told how many run.
    """

    def __init__(self, max_running: int, stats: EngineStats, progress: Progress) -> None:
        self._max_running = max_running
        self._most_of_one = max_running - max_running // _ONE_IN
        self._held: Counter[str] = Counter()
        self._waiting: dict[QueueEntry, asyncio.Future[None]] = {}
        self._stats = stats
        self._progress = progress

    def enter(self, scope: CacheScope) -> "QueueEntry":
        """Take in a request, which waits from now on; its entry is released in any case.

        Args:
            scope: whose it is, and how soon it is wanted.
        """
        self._stats.waiting += 1
        return QueueEntry(self, scope)

    async def _begin(self, entry: "QueueEntry") -> None:
        turn = self._waiting[entry] = asyncio.get_running_loop().create_future()
        self._next()
        try:
            await turn
        finally:
            self._waiting.pop(entry, None)

    def _next(self) -> None:
        """Let those run whose turn it is."""
        while self._held.total() < self._max_running:
            allowed = [
                entry for entry, turn in self._waiting.items() if not turn.done() and self._may_run(entry.scope.caller)
            ]
            entry = first_turn(allowed, lambda each: each.scope, self._held)
            if entry is None:
                return
            self._waiting.pop(entry).set_result(None)
            self._held[entry.scope.caller] += 1
            self._stats.waiting -= 1
            self._stats.running += 1
            self._progress.begin()
            entry.runs = True

    def _may_run(self, caller: str) -> bool:
        return not caller or self._held[caller] < self._most_of_one

    def _release(self, entry: "QueueEntry") -> None:
        if not entry.runs:
            self._stats.waiting -= 1
            return
        self._progress.end()
        self._stats.running -= 1
        caller = entry.scope.caller
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        self._next()


class QueueEntry:
    """One request in the queue: it waits, or it runs.

    Attributes:
        scope: Whose it is, and how soon it is wanted.
        runs: Whether it has got its turn.
    """

    def __init__(self, queue: RequestQueue, scope: CacheScope) -> None:
        self._queue = queue
        self.scope = scope
        self.runs = False

    async def begin(self) -> None:
        """Wait until the request may run."""
        await self._queue._begin(self)

    def release(self) -> None:
        """Take the request out."""
        self._queue._release(self)
