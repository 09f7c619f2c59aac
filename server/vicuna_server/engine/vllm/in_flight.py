"""Requests in flight, so that they can be ended where vLLM hangs or ours stops."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from vicuna_server.errors import VicunaError

__all__ = ["InFlight", "both"]

Result = TypeVar("Result")


class InFlight:
    """Tasks, and how each is stopped with an error."""

    def __init__(self) -> None:
        self._stops: dict[asyncio.Task[Any], Callable[[VicunaError], None]] = {}

    def add(self, task: "asyncio.Task[Any]", stop: Callable[[VicunaError], None]) -> None:
        """Take in a task until it is done."""
        self._stops[task] = stop
        task.add_done_callback(self._stops.pop)

    def stop_all(self, why: VicunaError) -> "list[asyncio.Task[Any]]":
        """Stop all, and return the tasks that are about to end."""
        tasks = list(self._stops)
        for task in tasks:
            self._stops[task](why)
        return tasks

    async def result(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return what some work gives.

        Raises:
            VicunaError: It was stopped; whatever the work raises.
        """
        reasons: list[VicunaError] = []

        def stop(why: VicunaError) -> None:
            reasons.append(why)
            task.cancel()

        task = asyncio.ensure_future(work)
        self.add(task, stop)
        try:
            return await task
        except asyncio.CancelledError:
            if reasons:
                raise reasons[0] from None
            raise


async def both(first: Coroutine[Any, Any, object], second: Coroutine[Any, Any, object]) -> None:
    """Wait for both; what one raises ends the other."""
    tasks = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
