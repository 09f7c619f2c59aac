"""Asks one ready server of each revision for its `/v1/models`, in the background; requests never wait for it.

A source is asked once it has a ready endpoint, again after failures, and no more once it has told.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from vicuna_server.connection_errors import CONNECTION_LOST
from vicuna_server.gateway.abilities import NOTHING, Abilities, read_abilities
from vicuna_server.gateway.catalogue import Catalogue, Endpoint, Model
from vicuna_server.gateway.known_abilities import MOST_EMPTY, Key, KnownAbilities, ask_again_after, source_of
from vicuna_server.gateway.response_head import BadResponseError, printable
from vicuna_server.gateway.usage_queries import QUERY_SECONDS

__all__ = ["AbilityQueries"]

logger = logging.getLogger(__name__)

_AT_ONCE = 8
_MOST_OF_A_REASON = 200


class AbilityQueries:
    """Follows a catalogue, and keeps what servers tell; made and used where the event loop runs.

    Args:
        catalogue: the models and their ready endpoints.
        ask: returns a server's list of models as it came, of bounded length; raises one of `CONNECTION_LOST`, or
            `BadResponseError`.
    """

    def __init__(self, catalogue: Catalogue, ask: Callable[[Model, Endpoint], Coroutine[Any, Any, bytes]]) -> None:
        self._catalogue = catalogue
        self._ask = ask
        self._known = KnownAbilities()
        self._few = asyncio.Semaphore(_AT_ONCE)
        self._tasks: dict[tuple[Key, str], asyncio.Task[None]] = {}
        catalogue.listeners.append(self.changed)

    def of(self, model: Model) -> Abilities:
        """Return what is known of a model."""
        return self._known.of(model.key)

    @property
    def open(self) -> int:
        """How many sources have not told, and will be asked again."""
        return len(self._tasks)

    async def close(self) -> None:
        """Ask no more."""
        if self.changed in self._catalogue.listeners:
            self._catalogue.listeners.remove(self.changed)
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def changed(self, key: Key) -> None:
        """Follow a model's endpoints."""
        new, gone = self._known.follow(key, self._endpoints(key))
        for source in gone:
            if (task := self._tasks.pop((key, source), None)) is not None:
                task.cancel()
        for source in new:
            self._tasks[key, source] = asyncio.create_task(self._learn(key, source))

    def _endpoints(self, key: Key) -> tuple[Endpoint, ...]:
        model = self._catalogue.model(key)
        return self._catalogue.endpoints(model) if model is not None else ()

    async def _learn(self, key: Key, source: str) -> None:
        """Ask a source until it tells something; what it told goes with its endpoints, as does this task."""
        empty = 0
        for tries in count(1):
            told = await self._query(key, source, tries)
            if told is not None:
                empty += 1
                self._known.tell(key, source, told)
                if told != NOTHING or empty >= MOST_EMPTY:
                    break
            await asyncio.sleep(ask_again_after(tries))
        del self._tasks[key, source]

    async def _query(self, key: Key, source: str, tries: int) -> Abilities | None:
        """Return what one of a source's servers tells, each in turn; None where it does not answer."""
        async with self._few:
            model = self._catalogue.model(key)
            endpoints = [each for each in self._endpoints(key) if source_of(each) == source]
            if model is None or not endpoints:
                return None  # a change is on its way that ends this task
            endpoint = endpoints[tries % len(endpoints)]
            try:
                async with asyncio.timeout(QUERY_SECONDS):
                    return read_abilities(await self._ask(model, endpoint), model.served_name)
            except (*CONNECTION_LOST, BadResponseError) as error:
                if tries == 1:
                    why = printable(str(error) or type(error).__name__, _MOST_OF_A_REASON)
                    logger.info("%s of %s does not list its model: %s; asking again", endpoint.url, model.id, why)
                return None
