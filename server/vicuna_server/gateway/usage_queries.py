"""Asks servers what a try has used whose answer ended early: in the background, bounded in number and in time."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from vicuna_server.gateway.catalogue import Model
from vicuna_server.gateway.lost import LOST
from vicuna_server.gateway.meter import Try
from vicuna_server.protocol.counts import Counts

__all__ = ["QUERY_SECONDS", "UsageQueries"]

QUERY_SECONDS = 5.0
"""A server answers as soon as its engine has let go of the request, which is behind the step it is in."""
_MOST = 2048
_MOST_OF_A_MODEL = 1024
"""A model whose servers do not answer leaves room for the others."""


class UsageQueries:
    """Those under way.

    Args:
        ask: asks a model's server about a try; returns what it says, None where it knows nothing.
    """

    def __init__(self, ask: Callable[[Model, Try], Coroutine[Any, Any, Counts | None]]) -> None:
        self._ask = ask
        self._tasks: set[asyncio.Task[None]] = set()
        self._of_model: Counter[str] = Counter()

    def ask(self, model: Model, one: Try) -> None:
        """Ask about a try and settle it in the end; where too many are asked about, without asking."""
        if len(self._tasks) >= _MOST or self._of_model[model.id] >= _MOST_OF_A_MODEL:
            one.settle()
            return
        self._of_model[model.id] += 1
        task = asyncio.create_task(self._answered(model, one))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for the answers, no longer than for a single one."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=QUERY_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _answered(self, model: Model, one: Try) -> None:
        try:
            async with asyncio.timeout(QUERY_SECONDS):
                counts = await self._ask(model, one)
            if counts is not None:
                one.record(counts.used)
        except LOST:
            return  # what it has told before counts
        finally:
            self._of_model[model.id] -= 1
            if not self._of_model[model.id]:
                del self._of_model[model.id]
            one.settle()
