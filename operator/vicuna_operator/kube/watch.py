"""The objects of a kind: a list in pages, then a watch. Where the metadata is enough, only that is asked for.

Ten thousand objects are read a page at a time, and none of them is kept here.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ (metadata-only fetches, efficient detection of
changes, retrieving large results sets in chunks)
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import aiohttp

from vicuna_operator.errors import KubeError, UnavailableError
from vicuna_operator.planning.lenient import table, tables, text

__all__ = ["ExpiredError", "ObjectIdentity", "Opener", "Page", "Place", "Source", "Stream", "Timing"]

_PAGE = 500
_GONE = 410
_LIST = aiohttp.ClientTimeout(total=60, connect=10)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Place = tuple[str, str]  # namespace, name


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
        return cls(*_place(body), text(metadata.get("uid")), "deletionTimestamp" in metadata)

    @property
    def place(self) -> Place:
        """Return its namespace and name."""
        return self.namespace, self.name


@dataclass(frozen=True)
class Page(Generic[T_co]):
    """A part of a list, or of its changes: the objects that are there, those that are gone, and the version of both."""

    version: str
    there: Sequence[T_co] = ()
    gone: Sequence[Place] = ()


@dataclass(frozen=True)
class Timing:
    """After how many seconds the server ends a watch, and after which silence it is a dead connection.

    Bookmarks come every minute. A watch that must not be dead for so long ends before the first.
    """

    watch: int = 290
    silence: float = 90.0


class Source(Protocol[T_co]):
    """Where one kind is listed and watched; a namespace of None means all."""

    def pages(self, namespace: str | None) -> AsyncIterator[Page[T_co]]:
        """List everything. Raises KubeError, ExpiredError."""
        ...

    def changes(self, namespace: str | None, version: str) -> AsyncIterator[Page[T_co]]:
        """Yield the changes after a version, until the server ends the response. Raises KubeError, ExpiredError."""
        ...


class Opener(Protocol):
    """Sends a GET for a kind and returns the answer, its body not read yet; raises KubeError."""

    async def open_list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        query: Mapping[str, str],
        limits: Any,
        *,
        metadata_only: bool,
    ) -> aiohttp.ClientResponse:
        """Open one answer."""
        ...


class Stream(Generic[T]):
    """A Source on an API server.

    Args:
        opener: sends the requests.
        api_version: of the kind.
        kind: what is watched.
        view: what is kept of an object.
        metadata_only: whether `view` reads nothing but the metadata.
        selector: labels that the objects have; empty: all.
        timing: how long a watch lasts.
    """

    def __init__(
        self,
        opener: Opener,
        api_version: str,
        kind: str,
        view: Callable[[Mapping[str, Any]], T],
        *,
        metadata_only: bool = False,
        selector: str = "",
        timing: Timing | None = None,
    ) -> None:
        self._opener = opener
        self._api_version = api_version
        self._kind = kind
        self._view = view
        self._metadata_only = metadata_only
        self._selector = {"labelSelector": selector} if selector else {}
        self._timing = timing or Timing()

    async def pages(self, namespace: str | None) -> AsyncIterator[Page[T]]:
        """List everything, a page at a time."""
        query = {"limit": str(_PAGE)}
        while True:
            answer = await self._open(namespace, query, _LIST)
            async with answer:
                found = _parsed(b"".join([part async for part in _parts(answer)]))
            metadata = table(found, "metadata")
            yield Page(
                text(metadata.get("resourceVersion")) or "0",
                [self._view(item) for item in tables(found["items"])],
            )
            if not (token := text(metadata.get("continue"))):
                return
            query = {"limit": str(_PAGE), "continue": token}

    async def changes(self, namespace: str | None, version: str) -> AsyncIterator[Page[T]]:
        """Watch: one change a time; a bookmark is a page without objects."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(self._timing.watch),
        }
        limits = aiohttp.ClientTimeout(total=None, connect=10, sock_read=self._timing.silence)
        answer = await self._open(namespace, query, limits)
        async with answer:
            async for line in _lines(answer):
                yield self._change(_parsed(line))

    async def _open(self, namespace: str | None, query: Mapping[str, str], limits: Any) -> aiohttp.ClientResponse:
        try:
            return await self._opener.open_list(
                self._api_version,
                self._kind,
                namespace,
                {**self._selector, **query},
                limits,
                metadata_only=self._metadata_only,
            )
        except KubeError as error:
            if error.status == _GONE:
                raise ExpiredError(str(error)) from error
            raise

    def _change(self, event: Mapping[str, Any]) -> Page[T]:
        kind, item = event.get("type"), table(event, "object")
        if kind == "ERROR":
            raise ExpiredError(text(item.get("message")) or "the watch failed")
        version = text(table(item, "metadata").get("resourceVersion"))
        if kind == "DELETED":
            return Page(version, gone=[_place(item)])
        return Page(version, there=[self._view(item)] if kind in ("ADDED", "MODIFIED") else [])


def _place(body: Mapping[str, Any]) -> Place:
    metadata = table(body, "metadata")
    return text(metadata.get("namespace")), text(metadata.get("name"))


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
