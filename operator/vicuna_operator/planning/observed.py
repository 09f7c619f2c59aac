"""What the operator sees of a model's children, as small immutable views of the API's objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from vicuna_contract import names as c
from vicuna_operator.planning.demand import DemandView
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.lenient import quantity, table, text, texts
from vicuna_operator.planning.meta import Body, Meta
from vicuna_operator.planning.pods import PodView

__all__ = [
    "ClaimView",
    "DryRunResult",
    "EventView",
    "ManagedObjectView",
    "Observed",
]


@dataclass(frozen=True)
class ClaimView:
    """A PersistentVolumeClaim."""

    meta: Meta
    phase: str
    access_modes: Sequence[str]
    capacity: str
    requested: str = ""
    storage_class: str = ""
    foreign: Mapping[str, str] = field(default_factory=dict)  # annotations of other groups

    @classmethod
    def of(cls, body: Body) -> Self:
        """Read a claim."""
        spec, status = table(body, "spec"), table(body, "status")
        return cls(
            meta=Meta.of(body),
            phase=text(status.get("phase")) or "Pending",
            access_modes=_modes(spec.get("accessModes")),
            capacity=quantity(table(status, "capacity").get("storage")),
            requested=quantity(table(spec, "resources", "requests").get("storage")),
            storage_class=text(spec.get("storageClassName")),
            foreign=_foreign(body),
        )


def _foreign(body: Body) -> Mapping[str, str]:
    noted = texts(table(body, "metadata").get("annotations"))
    return {key: value for key, value in noted.items() if not key.startswith(c.GROUP)}


def _modes(value: object) -> Sequence[str]:
    return tuple(text(item) for item in value) if isinstance(value, list) else ()


@dataclass(frozen=True)
class ManagedObjectView:
    """An object that a model has once, under its name: Service, PodDisruptionBudget or NetworkPolicy."""

    meta: Meta
    spec: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Body) -> Self:
        """Read one of them."""
        return cls(meta=Meta.of(body), spec=table(body, "spec"))


@dataclass(frozen=True)
class EventView:
    """A Kubernetes Event about a child."""

    type: str
    reason: str
    message: str

    @classmethod
    def of(cls, body: Body) -> Self:
        """Read an Event."""
        return cls(text(body.get("type")), text(body.get("reason")), text(body.get("message")))


@dataclass(frozen=True)
class DryRunResult:
    """What the API server answered to a dry run.

    `refused` are its findings about the objects themselves (422); `is_new` is true in the first plan that knows of it.
    """

    key: str
    refused: Sequence[str] = ()
    warnings: Sequence[str] = ()
    is_new: bool = False


@dataclass(frozen=True)
class Observed:
    """Everything seen of one model's surroundings at one moment.

    `jobs`, `deployments`, `pods`, `service` carry the model's label; planning checks whom they belong to.
    `claims` maps the names of the claims the spec mentions (and our own) to what was found, None if absent.
    `events` maps a child's uid to its Events, read only for children the last plan called stuck.
    `progress` is the last progress line of the running merge, None where it is not known.
    `neighbours` are the artifacts that other models of the namespace use on this model's own claim.
    `neighbour_pods` are other models' servers of what was put aside on it, where something was.
    `policy` is the NetworkPolicy of the model's name. `budgets_offered` says whether the cluster has
    PodDisruptionBudgets; `budget` is the one of the model's name.
    `demand` is known for models with `serving.autoscaling` only, None where it cannot be read; `autoscalers` names the
    HorizontalPodAutoscalers that scale the model.
    """

    jobs: Sequence[JobView] = ()
    deployments: Sequence[DeploymentView] = ()
    pods: Sequence[PodView] = ()
    service: ManagedObjectView | None = None
    budgets_offered: bool = False
    budget: ManagedObjectView | None = None
    policy: ManagedObjectView | None = None
    claims: Mapping[str, ClaimView | None] = field(default_factory=dict)
    events: Mapping[str, Sequence[EventView]] = field(default_factory=dict)
    progress: Mapping[str, Any] | None = None
    conflicts: Sequence[str] = ()  # names that objects of others have taken
    relabelled: Sequence[str] = ()  # children that no watch shows, since somebody changed our label
    neighbours: Sequence[str] = ()
    neighbour_pods: Sequence[PodView] = ()
    dry_run: DryRunResult | None = None  # None: there was none yet
    demand: DemandView | None = None
    autoscalers: Sequence[str] = ()

    @property
    def merges(self) -> Sequence[JobView]:
        """Return the merge Jobs."""
        return [job for job in self.jobs if not job.is_prune]
