"""The watches' indices: models, and their children by (namespace, model)."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from vicuna_contract import names as c
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.meta import Meta
from vicuna_operator.planning.observed import ClaimView, ManagedObjectView
from vicuna_operator.planning.pods import PodView

__all__ = ["Children", "Index", "Key", "Snapshot", "View"]

Key = tuple[str, str]  # namespace, name of the model

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class View(Protocol):
    """Any view of a child."""

    @property
    def meta(self) -> Meta:
        """Return the child's metadata."""
        ...


class Index(Protocol[T_co]):
    """A kopf index, as far as it is used: each key has the values of all objects under it."""

    def __contains__(self, key: object, /) -> bool: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __getitem__(self, key: Key, /) -> Iterable[T_co]: ...


@dataclass(frozen=True)
class Children:
    """All children of one model that the watches have shown."""

    jobs: tuple[JobView, ...] = ()
    deployments: tuple[DeploymentView, ...] = ()
    pods: tuple[PodView, ...] = ()
    claims: tuple[ClaimView, ...] = ()
    services: tuple[ManagedObjectView, ...] = ()

    def all(self) -> tuple[View, ...]:
        """Return the children of every kind."""
        return (*self.jobs, *self.deployments, *self.pods, *self.claims, *self.services)


@dataclass
class Snapshot:
    """The indices; kopf fills them before any event handler runs, and updates them from the watches."""

    models: Index[Mapping[str, Any]] = field(default_factory=dict)
    jobs: Index[JobView] = field(default_factory=dict)
    deployments: Index[DeploymentView] = field(default_factory=dict)
    pods: Index[PodView] = field(default_factory=dict)
    claims: Index[ClaimView] = field(default_factory=dict)
    services: Index[ManagedObjectView] = field(default_factory=dict)

    def model(self, key: Key) -> Mapping[str, Any] | None:
        """Return the newest body of a model; there may be two for a moment when it is deleted and created again."""
        bodies = _values(self.models, key)
        return max(bodies, key=lambda body: str(body["metadata"].get("creationTimestamp"))) if bodies else None

    def children(self, key: Key, keep: Callable[[View], bool]) -> Children:
        """Return a model's children for which `keep` is true, in order of name."""

        def some(index: Index[T]) -> tuple[T, ...]:
            found = [view for view in _values(index, key) if keep(view)]  # type: ignore[arg-type]
            return tuple(sorted(found, key=lambda view: view.meta.name))  # type: ignore[attr-defined]

        return Children(
            jobs=some(self.jobs),
            deployments=some(self.deployments),
            pods=some(self.pods),
            claims=some(self.claims),
            services=some(self.services),
        )

    def artifacts_on(self, claim: str, *, besides: Key) -> set[str]:
        """Return the artifacts on a claim that other models of the namespace refer to."""
        found: set[str] = set()
        for index in (self.jobs, self.deployments):
            for key in index:
                if key[0] == besides[0] and key != besides:
                    found |= {view.artifact_id or "" for view in index[key] if view.claim == claim}
        return found - {""}

    def servers_of(self, artifacts: Collection[str], claim: str, *, besides: Key) -> list[PodView]:
        """Return other models' pods that serve one of these artifacts of a claim."""
        found: list[PodView] = []
        for key in self.pods if artifacts else ():
            if key[0] == besides[0] and key != besides:
                claims = {item.revision: item.claim for item in _values(self.deployments, key)}
                pods = [pod for pod in self.pods[key] if claims.get(pod.revision, claim) == claim]
                found += [pod for pod in pods if pod.meta.labels.get(c.LABEL_ARTIFACT_ID) in artifacts]
        return found


def _values(index: Index[T], key: Key) -> list[T]:
    return list(index[key]) if key in index else []
