"""Keeps a cache of some Kubernetes objects up to date: list, then watch, again and again.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from vicuna_contract.backoff import Backoff
from vicuna_server.errors import UnreachableError
from vicuna_server.gateway.api_server import ApiServer, ApiStatusError
from vicuna_server.gateway.skip_broken import skip_if_broken

__all__ = ["Cache", "Reflector"]

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 290
_LIST_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)
# bookmarks arrive every minute: a watch that is silent for longer has a dead connection
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_read=90)
_FIRST_DELAY, _MOST_DELAY = 0.2, 15.0
_SHORT_SECONDS = 5.0  # a watch that ends sooner and without an event is repeated only after a pause

Body = dict[str, Any]


class Cache(Protocol):
    """Gets the objects of a reflector; called in the event loop, never concurrently."""

    def replace(self, items: list[Body]) -> None:
        """Replace all objects."""

    def changed(self, item: Body) -> None:
        """Add or update an object."""

    def deleted(self, item: Body) -> None:
        """Remove an object."""


@dataclass
class Reflector:
    """One list and watch; `synced` is set after the first list.

    Args:
        api: the API server.
        path: of the collection, such as /apis/discovery.k8s.io/v1/endpointslices.
        cache: gets the objects.
        query: selectors.
    """

    api: ApiServer
    path: str
    cache: Cache
    query: Mapping[str, str]

    def __post_init__(self) -> None:
        self.synced = asyncio.Event()
        self._version = ""
        self._backoff = Backoff(_FIRST_DELAY, _MOST_DELAY)

    async def run(self) -> None:
        """Run until cancelled; after a failure it tries again, with growing pauses, and keeps the cache."""
        while True:
            try:
                if not self._version:
                    await self._list()
                if await self._watch():
                    continue
            except (ApiStatusError, UnreachableError, aiohttp.ClientError, OSError) as error:
                if isinstance(error, ApiStatusError) and error.status == 410:
                    self._version = ""  # the API server has compacted that version: list again
                else:
                    self._warn(error)
            except Exception as error:  # noqa: BLE001  # no response may end the process
                self._version = ""  # events may be lost: list again
                self._warn(error)
            await asyncio.sleep(self._backoff.next())

    def _warn(self, error: Exception) -> None:
        logger.warning("cannot watch %s: %.500s; trying again", self.path, str(error) or type(error).__name__)

    async def _list(self) -> None:
        response = await self.api.get(self.path, self.query, _LIST_TIMEOUT)
        async with response:
            found = await response.json()
        if not isinstance(found, dict):
            raise TypeError("the response is not a list of objects")
        items = found.get("items")
        skip_if_broken(self.cache.replace, [item for item in items if isinstance(item, dict)] if items else [])
        self._version = _version_of(found) or "0"
        self.synced.set()

    async def _watch(self) -> bool:
        """Follow the events until the response ends; return whether to watch again without a pause."""
        began, heard = asyncio.get_running_loop().time(), False
        async for event in self._events():
            kind, item = event.get("type"), event.get("object")
            if not isinstance(item, dict):
                continue
            if kind == "ERROR":
                raise ApiStatusError(int(item.get("code") or 500), str(item.get("message") or ""))
            heard = True
            self._backoff.reset()
            self._version = _version_of(item) or self._version
            if kind in ("ADDED", "MODIFIED"):
                skip_if_broken(self.cache.changed, item)
            elif kind == "DELETED":
                skip_if_broken(self.cache.deleted, item)
        return heard or asyncio.get_running_loop().time() - began > _SHORT_SECONDS

    async def _events(self) -> AsyncIterator[Body]:
        query = {
            **self.query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        response = await self.api.get(self.path, query, _WATCH_TIMEOUT)
        async with response:
            while line := await response.content.readline():
                try:
                    event = json.loads(line)
                except (ValueError, RecursionError) as error:
                    self._warn(error)  # skip the event: another watch would send it again
                    continue
                if isinstance(event, dict):
                    yield event


def _version_of(thing: Body) -> str:
    """Return the resourceVersion of an object or a list; empty where it has none."""
    metadata = thing.get("metadata")
    return str(metadata.get("resourceVersion") or "") if isinstance(metadata, dict) else ""
