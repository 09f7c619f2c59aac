"""Who runs and who waits: as many requests at once as are allowed, the others in the order of their coming."""

import asyncio

from vicuna_server.engine.stats import EngineStats
from vicuna_server.engine.vllm.progress import Progress

__all__ = ["Places", "Ticket"]


class Places:
    """The places of one engine.

    Args:
        count: Of places.
        stats: Gauges to keep.
        progress: Told how many run.
    """

    def __init__(self, count: int, stats: EngineStats, progress: Progress) -> None:
        self._free = asyncio.Semaphore(count)
        self._stats = stats
        self._progress = progress

    def line_up(self) -> "Ticket":
        """Stand in the line; the ticket is given back in any case."""
        self._stats.waiting += 1
        return Ticket(self)

    async def take(self) -> None:
        """Wait for a place."""
        await self._free.acquire()
        self._stats.waiting -= 1
        self._stats.running += 1
        self._progress.begin()

    def leave_line(self) -> None:
        """Give up waiting."""
        self._stats.waiting -= 1

    def leave_place(self) -> None:
        """Make room for the next."""
        self._progress.end()
        self._stats.running -= 1
        self._free.release()


class Ticket:
    """One request's place, in the line or among those that run."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._placed = False

    async def take(self) -> None:
        """Wait until there is a place."""
        await self._places.take()
        self._placed = True

    def give_back(self) -> None:
        """Leave."""
        if self._placed:
            self._places.leave_place()
        else:
            self._places.leave_line()
