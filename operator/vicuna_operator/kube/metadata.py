"""The objects of a kind by their metadata alone: a list in pages, then a watch.

Ten thousand objects are read a page at a time, and none of them is kept here.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ (metadata-only fetches, efficient detection of
changes, retrieving large results sets in chunks)
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from vicuna_operator.errors import KubeError, UnavailableError
from vicuna_operator.planning.lenient import table, tables, text

__all__ = ["ExpiredError", "MetadataSource", "ObjectIdentity", "Opener", "Page", "Stream"]

_PAGE = 500
_WATCH_SECONDS = 290
_GONE = 410
_LIST = aiohttp.ClientTimeout(total=60, connect=10)
# Bookmarks come every minute: a watch that is silent for longer is a dead connection.
_WATCH = aiohttp.ClientTimeout(total=None, connect=10, sock_read=90)


class ExpiredError(Exception):
    """The server does not have the requested version any more: list again."""


@dataclass(frozen=True, slots=True)
class ObjectIdentity:
    """The part of an object's metadata that is used."""

    namespace: str
    name: str
    uid: str
    deleting: bool

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "ObjectIdentity":
        """Read an object, whatever else it carries."""
        metadata = table(body, "metadata")
        namespace, name, uid = (text(metadata.get(field)) for field in ("namespace", "name", "uid"))
        return cls(namespace, name, uid, "deletionTimestamp" in metadata)


@dataclass(frozen=True)
class Page:
    """A part of a list, or of its changes: the objects that are there, those that are gone, and the version of both."""

    version: str
    there: Sequence[ObjectIdentity] = ()
    gone: Sequence[ObjectIdentity] = ()


class MetadataSource(Protocol):
    """Where one kind is listed and watched; a namespace of None means all."""

    def pages(self, namespace: str | None) -> AsyncIterator[Page]:
        """List everything. Raises KubeError, ExpiredError."""
        ...

    def changes(self, namespace: str | None, version: str) -> AsyncIterator[Page]:
        """Yield the changes after a version, until the server ends the response. Raises KubeError, ExpiredError."""
        ...


class Opener(Protocol):
    """Sends a GET for metadata and returns the answer, its body not read yet; raises KubeError."""

    async def open_metadata(
        self, api_version: str, kind: str, namespace: str | None, query: Mapping[str, str], limits: Any
    ) -> aiohttp.ClientResponse:
        """Open one answer."""
        ...


class Stream:
    """A MetadataSource on an API server."""

    def __init__(self, opener: Opener, api_version: str, kind: str) -> None:
        self._opener = opener
        self._api_version = api_version
        self._kind = kind

    async def pages(self, namespace: str | None) -> AsyncIterator[Page]:
        """List everything, a page at a time."""
        query = {"limit": str(_PAGE)}
        while True:
            answer = await self._open(namespace, query, _LIST)
            async with answer:
                found = _parsed(b"".join([part async for part in _parts(answer)]))
            metadata = table(found, "metadata")
            yield Page(
                text(metadata.get("resourceVersion")) or "0",
                [ObjectIdentity.of(item) for item in tables(found["items"])],
            )
            if not (token := text(metadata.get("continue"))):
                return
            query = {"limit": str(_PAGE), "continue": token}

    async def changes(self, namespace: str | None, version: str) -> AsyncIterator[Page]:
        """Watch: one change a time; a bookmark is a page without objects."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        answer = await self._open(namespace, query, _WATCH)
        async with answer:
            async for line in _lines(answer):
                yield _change(_parsed(line))

    async def _open(self, namespace: str | None, query: Mapping[str, str], limits: Any) -> aiohttp.ClientResponse:
        try:
            return await self._opener.open_metadata(self._api_version, self._kind, namespace, query, limits)
        except KubeError as error:
            if error.status == _GONE:
                raise ExpiredError(str(error)) from error
            raise


def _change(event: Mapping[str, Any]) -> Page:
    kind, item = event.get("type"), table(event, "object")
    if kind == "ERROR":
        raise ExpiredError(text(item.get("message")) or "the watch failed")
    version, identity = text(table(item, "metadata").get("resourceVersion")), ObjectIdentity.of(item)
    if kind == "DELETED":
        return Page(version, gone=[identity])
    return Page(version, there=[identity] if kind in ("ADDED", "MODIFIED") else [])


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except (RecursionError, ValueError):
        parsed = None
    if not isinstance(parsed, dict):
        raise UnavailableError("the answer is not a JSON object; is this an API server?")
    return {"items": [], **parsed}


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Split into lines of any length: annotations alone may have 256 kB. A last line without its end is dropped."""
    held: list[bytes] = []
    async for part in _parts(answer):
        *ended, rest = part.split(b"\n")
        for line in ended:
            if whole := b"".join([*held, line]):
                yield whole
            held = []
        held.append(rest)


async def _parts(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for part in answer.content.iter_any():
            yield part
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UnavailableError(str(error) or "no answer in time") from error
