"""Which namespaces may be watched: one that is gone or forbidden must not hold up the others."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vicuna_contract import names as c
from vicuna_operator.controller.settings import CHILD_SELECTOR, WATCHED_CHILDREN
from vicuna_operator.errors import ForbiddenError, KubeError, NotFoundError
from vicuna_operator.kube.port import Kube

__all__ = ["Reach", "find_reach", "until_changed"]

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 30.0
_KINDS = [(c.API_VERSION, c.KIND), *((api, kind) for *_, api, kind in WATCHED_CHILDREN)]


@dataclass(frozen=True)
class Reach:
    """Namespaces that may be watched (empty: the whole cluster), and those that may not, each with the API's words."""

    usable: Sequence[str] = ()
    refused: Mapping[str, ForbiddenError | NotFoundError] = field(default_factory=dict)


async def find_reach(kube: Kube, namespaces: Sequence[str]) -> Reach:
    """Try to read everything that is watched.

    Raises:
        ForbiddenError: no namespace may be watched, or not the whole cluster where none is named.
        KubeError: the API server cannot be asked.
    """
    if not namespaces:
        await _read_all(kube, None)
        return Reach()
    usable: list[str] = []
    refused: dict[str, ForbiddenError | NotFoundError] = {}
    for namespace in namespaces:
        try:
            await _read_all(kube, namespace)
            usable.append(namespace)
        except (ForbiddenError, NotFoundError) as error:
            refused[namespace] = error
    if not usable:
        raise next(iter(refused.values()))
    return Reach(tuple(usable), refused)


async def until_changed(kube: Kube, reach: Reach, *, every: float = _LOOK_SECONDS) -> str:
    """Wait until access to namespaces changes; return which. An API server that does not answer changes nothing."""
    names = [*reach.usable, *reach.refused]
    while True:
        await asyncio.sleep(every)
        if len(names) < 2:
            continue
        try:
            now = await find_reach(kube, names)
        except KubeError as error:
            logger.debug("Cannot check the namespaces: %s", error)
            continue
        if set(now.usable) != set(reach.usable):
            return ", ".join(sorted(set(now.usable) ^ set(reach.usable)))


async def _read_all(kube: Kube, namespace: str | None) -> None:
    for api_version, kind in _KINDS:
        selector = None if kind == c.KIND else CHILD_SELECTOR
        await kube.list(api_version, kind, namespace, label_selector=selector, limit=1)
