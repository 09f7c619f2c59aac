"""Keeps something up to date with the objects of a kind: a list, then a watch, and both again after a failure."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from vicuna_operator.errors import KubeError
from vicuna_operator.kube.watch import ExpiredError, Page, Place, Source

__all__ = ["Follower", "follow"]

logger = logging.getLogger(__name__)

_FIRST_DELAY, _MOST_DELAY = 0.2, 15.0


class _Placed(Protocol):
    @property
    def place(self) -> Place: ...


T = TypeVar("T", bound=_Placed)
T_contra = TypeVar("T_contra", contravariant=True)


class Follower(Protocol[T_contra]):
    """What is kept up to date."""

    def apply_page(self, page: Page[T_contra]) -> None:
        """Apply changes of the watch, or a part of a list."""
        ...

    def known_in(self, namespace: str | None) -> set[Place]:
        """Return the objects that it holds to be there in a namespace, or in all (None)."""
        ...


async def follow(
    source: Source[T],
    follower: Follower[T],
    namespaces: Sequence[str] = (),
    *,
    what: str,
    on_reached: Callable[[bool], None] = lambda _: None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Keep `follower` up to date with these namespaces, or with all if none is named; go on until cancelled.

    `what` is named in the log. `on_reached` is called with True after each list, and with False after each failure.
    """
    async with asyncio.TaskGroup() as group:
        for namespace in namespaces or (None,):
            group.create_task(_follow(source, follower, namespace, what, on_reached, sleep))


async def _follow(
    source: Source[T],
    follower: Follower[T],
    namespace: str | None,
    what: str,
    on_reached: Callable[[bool], None],
    sleep: Callable[[float], Awaitable[object]],
) -> None:
    version, delay, complaint = "", _FIRST_DELAY, ""
    while True:
        try:
            if not version:
                version = await _list(source, follower, namespace)
                on_reached(True)
            async for page in source.changes(namespace, version):
                follower.apply_page(page)
                version, delay, complaint = page.version or version, _FIRST_DELAY, ""
        except ExpiredError as error:
            logger.debug("The %s of %s are listed again: %s", what, namespace or "all namespaces", error)
            version = ""
        except KubeError as error:
            on_reached(False)
            if (message := str(error)) != complaint:
                logger.warning("Cannot watch the %s of %s: %s", what, namespace or "all namespaces", message)
            version, complaint, delay = "", message, min(delay * 2, _MOST_DELAY)
        await sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret


async def _list(source: Source[T], follower: Follower[T], namespace: str | None) -> str:
    version, missing = "0", follower.known_in(namespace)  # what becomes known later is read by others
    async for page in source.pages(namespace):
        follower.apply_page(page)
        missing -= {item.place for item in page.there}
        version = page.version
    follower.apply_page(Page(version, gone=sorted(missing)))
    return version
