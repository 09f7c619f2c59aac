"""A Snapshot that is always true to a MemoryKube: the watches without kopf."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from support.memory_kube import MemoryKube
from vicuna_contract import names as c
from vicuna_operator.controller.snapshot import Key, Snapshot
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.observed import ClaimView, ManagedObjectView
from vicuna_operator.planning.pods import PodView


class LiveIndex:
    """Reads MemoryKube anew at each look; `frozen` makes it a watch that has stopped hearing."""

    def __init__(
        self,
        kube: MemoryKube,
        kind: str,
        key: Callable[[Mapping[str, Any]], Key | None],
        view: Callable[[Mapping[str, Any]], Any],
    ) -> None:
        self._kube, self._kind, self._key, self._view = kube, kind, key, view
        self._frozen: dict[Key, list[Any]] | None = None

    def freeze(self) -> None:
        self._frozen = self._read()

    def thaw(self) -> None:
        self._frozen = None

    def _read(self) -> dict[Key, list[Any]]:
        found: dict[Key, list[Any]] = {}
        for body in self._kube.objects(self._kind):
            if (key := self._key(body)) is not None:
                found.setdefault(key, []).append(self._view(body))
        return found

    def __contains__(self, key: object) -> bool:
        return key in (self._read() if self._frozen is None else self._frozen)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._read() if self._frozen is None else self._frozen)

    def __getitem__(self, key: Key) -> Iterable[Any]:
        return (self._read() if self._frozen is None else self._frozen)[key]


def model_key(body: Mapping[str, Any]) -> Key | None:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def child_key(body: Mapping[str, Any]) -> Key | None:
    labels = body["metadata"].get("labels") or {}
    if labels.get(c.LABEL_MANAGED_BY) != c.MANAGED_BY or c.LABEL_MODEL not in labels:
        return None
    return body["metadata"]["namespace"], labels[c.LABEL_MODEL]


# index of a Snapshot → kind, key and view of what it holds
WATCHED: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Key | None], Callable[[Mapping[str, Any]], Any]]] = {
    "models": (c.KIND, model_key, dict),
    "jobs": ("Job", child_key, JobView.of),
    "deployments": ("Deployment", child_key, DeploymentView.of),
    "pods": ("Pod", child_key, PodView.of),
    "claims": ("PersistentVolumeClaim", child_key, ClaimView.of),
    "services": ("Service", child_key, ManagedObjectView.of),
}


def live_snapshot(kube: MemoryKube) -> Snapshot:
    return Snapshot(**{name: LiveIndex(kube, *watched) for name, watched in WATCHED.items()})
