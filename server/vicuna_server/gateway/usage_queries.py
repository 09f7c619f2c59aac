"""Asks servers what an attempt has used whose response ended early: in the background, limited in number and time."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from vicuna_server.connection_errors import CONNECTION_LOST
from vicuna_server.gateway.catalogue import Model
from vicuna_server.gateway.meter import Attempt
from vicuna_server.protocol.counts import Counts

__all__ = ["QUERY_SECONDS", "UsageQueries"]

QUERY_SECONDS = 5.0
"""Seconds that a query may take. A server responds once its engine has ended the request, after the present step."""
_MOST = 2048
_MOST_OF_A_MODEL = 1024
"""Fewer than `_MOST`, so that a model whose servers do not respond leaves room for the others."""


class UsageQueries:
    """The queries under way.

    Args:
        ask: asks a model's server about an attempt; returns its counts, None where it knows nothing.
    """

    def __init__(self, ask: Callable[[Model, Attempt], Coroutine[Any, Any, Counts | None]]) -> None:
        self._ask = ask
        self._tasks: set[asyncio.Task[None]] = set()
        self._of_model: Counter[str] = Counter()

    def ask(self, model: Model, attempt: Attempt) -> None:
        """Ask about an attempt, then settle it; with too many queries under way it is settled without asking."""
        if len(self._tasks) >= _MOST or self._of_model[model.id] >= _MOST_OF_A_MODEL:
            attempt.settle()
            return
        self._of_model[model.id] += 1
        task = asyncio.create_task(self._query(model, attempt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for all queries, no longer than one may take."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=QUERY_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _query(self, model: Model, attempt: Attempt) -> None:
        try:
            async with asyncio.timeout(QUERY_SECONDS):
                counts = await self._ask(model, attempt)
            if counts is not None:
                attempt.record(counts.used)
        except CONNECTION_LOST:
            return  # what it said before stays counted
        finally:
            self._of_model[model.id] -= 1
            if not self._of_model[model.id]:
                del self._of_model[model.id]
            attempt.settle()
