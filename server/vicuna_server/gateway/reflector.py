"""Keeping a picture of some Kubernetes objects: list, then watch, again and again.

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
from vicuna_server.gateway.api_server import AnswerError, ApiServer
from vicuna_server.gateway.careful import carefully

__all__ = ["Picture", "Reflector"]

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 290
_LIST_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)
# bookmarks come every minute: a watch silent for longer is a connection that nobody holds any more
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_read=90)
_FIRST_DELAY, _MOST_DELAY = 0.2, 15.0
_SHORT_SECONDS = 5.0  # a watch that ended sooner, and said nothing, is no reason to ask again at once

Body = dict[str, Any]


class Picture(Protocol):
    """What a reflector keeps up to date; called in the event loop, never concurrently."""

    def replace(self, items: list[Body]) -> None:
        """Take all objects there are."""

    def changed(self, item: Body) -> None:
        """Take an object that is new or has changed."""

    def deleted(self, item: Body) -> None:
        """Drop an object."""


@dataclass
class Reflector:
    """One list and watch; `synced` is set after the first list.

    Args:
        api: where.
        path: of the collection, such as /apis/discovery.k8s.io/v1/endpointslices.
        picture: gets all that is found.
        query: selectors.
    """

    api: ApiServer
    path: str
    picture: Picture
    query: Mapping[str, str]

    def __post_init__(self) -> None:
        self.synced = asyncio.Event()
        self._version = ""
        self._backoff = Backoff(_FIRST_DELAY, _MOST_DELAY)

    async def run(self) -> None:
        """Go on until cancelled; whatever fails is tried again, later each time, with what was known kept."""
        while True:
            try:
                if not self._version:
                    await self._list()
                if await self._watch():
                    continue
            except (AnswerError, UnreachableError, aiohttp.ClientError, OSError) as error:
                if isinstance(error, AnswerError) and error.status == 410:
                    self._version = ""  # our place in history has been forgotten
                else:
                    self._complain(error)
            except Exception as error:  # noqa: BLE001  # no answer, however odd, may end the process
                self._version = ""  # nothing tells what comes behind it but a new list
                self._complain(error)
            await asyncio.sleep(self._backoff.next())

    def _complain(self, error: Exception) -> None:
        logger.warning("cannot watch %s: %.500s; trying again", self.path, str(error) or type(error).__name__)

    async def _list(self) -> None:
        answer = await self.api.get(self.path, self.query, _LIST_TIMEOUT)
        async with answer:
            found = await answer.json()
        if not isinstance(found, dict):
            raise TypeError("the answer is no list of objects")
        items = found.get("items")
        carefully(self.picture.replace, [item for item in items if isinstance(item, dict)] if items else [])
        self._version = _version_of(found) or "0"
        self.synced.set()

    async def _watch(self) -> bool:
        """Follow what happens until the answer ends; return whether it was worth anything."""
        began, heard = asyncio.get_running_loop().time(), False
        async for event in self._events():
            kind, item = event.get("type"), event.get("object")
            if not isinstance(item, dict):
                continue
            if kind == "ERROR":
                raise AnswerError(int(item.get("code") or 500), str(item.get("message") or ""))
            heard = True
            self._backoff.reset()
            self._version = _version_of(item) or self._version
            if kind in ("ADDED", "MODIFIED"):
                carefully(self.picture.changed, item)
            elif kind == "DELETED":
                carefully(self.picture.deleted, item)
        return heard or asyncio.get_running_loop().time() - began > _SHORT_SECONDS

    async def _events(self) -> AsyncIterator[Body]:
        query = {
            **self.query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        answer = await self.api.get(self.path, query, _WATCH_TIMEOUT)
        async with answer:
            while line := await answer.content.readline():
                try:
                    event = json.loads(line)
                except (ValueError, RecursionError) as error:
                    self._complain(error)  # and go on with what follows: asked for again it would be the same
                    continue
                if isinstance(event, dict):
                    yield event


def _version_of(thing: Body) -> str:
    """Return the resourceVersion of an object or a list; empty where it has none."""
    metadata = thing.get("metadata")
    return str(metadata.get("resourceVersion") or "") if isinstance(metadata, dict) else ""
