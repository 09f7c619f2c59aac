"""What the operator sees of a model's children, as small immutable views of the API's objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from vicuna_contract import names as c
from vicuna_operator.planning.containers import ContainerView, Termination, containers_of
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.lenient import moment, quantity, table, tables, text, texts
from vicuna_operator.planning.meta import Body, Meta, conditions_of

__all__ = [
    "ClaimView",
    "DryRunResult",
    "EventView",
    "ManagedObjectView",
    "Observed",
    "PodView",
]


@dataclass(frozen=True)
class PodView:
    """A pod of a merge Job or of a serving Deployment, with the state of the operator's own containers in it.

    With vLLM there are two, see `containers`; `container` is the one that waits or has ended. `others` are the other
    containers, which an admission webhook has added; `init` are its init containers.
    """

    meta: Meta
    phase: str
    ready: bool
    scheduled: bool
    unschedulable: str  # the scheduler's message, empty when it found a node
    node: str
    status_reason: str  # the pod's own: Evicted, DeadlineExceeded, …
    status_message: str
    waiting_reason: str
    waiting_message: str
    running: bool
    terminated: Termination | None  # how it ended, where it does not run now
    last_terminated: Termination | None  # how it ended before its last restart
    restarts: int
    unscheduled_since: datetime | None = None
    ready_since: datetime | None = None
    others: Sequence[ContainerView] = ()
    init: Sequence[ContainerView] = ()
    scheduling: str = ""  # why the scheduler has not placed it, in a word: Unschedulable, SchedulingGated
    scheduled_since: datetime | None = None
    started: datetime | None = None  # when its container started; None after a restart
    disruption: str = ""  # why the cluster removes it (preemption, eviction, taint, shutdown); empty: it does not
    began: datetime | None = None  # when its container started last, of two the earlier; None while it does not run
    ends: datetime | None = None  # when its grace period is over; None while it is not being deleted
    container: str = ""
    with_engine: bool = False  # vLLM runs beside the server, which is its front

    @property
    def revision(self) -> str:
        """Return the revision label; empty for a merge pod."""
        return self.meta.labels.get(c.LABEL_REVISION, "")

    @property
    def job_name(self) -> str:
        """Return the Job this pod belongs to; empty for a serving pod."""
        return self.meta.labels.get("job-name", "")

    @property
    def over(self) -> bool:
        """Tell whether it has ended and holds no resources any more; an evicted pod stays so until it is deleted."""
        return self.phase in {"Failed", "Succeeded"}

    @property
    def gated(self) -> bool:
        """Tell whether a scheduling gate holds it back: the scheduler has not looked at it yet."""
        return self.scheduling == "SchedulingGated"

    @property
    def is_server(self) -> bool:
        """Tell a serving pod from a merge pod."""
        return self.meta.labels.get(c.LABEL_NAME) == c.NAME_SERVER

    @classmethod
    def of(cls, body: Body) -> Self:
        """Read a pod."""
        meta = Meta.of(body)
        status = table(body, "status")
        conditions = conditions_of(status)
        scheduled, readiness = conditions.get("PodScheduled", {}), conditions.get("Ready", {})
        server = meta.labels.get(c.LABEL_NAME) == c.NAME_SERVER
        names = (c.SERVER_CONTAINER, c.ENGINE_CONTAINER) if server else (c.MERGE_CONTAINER,)
        own, others = containers_of(status, *names)
        return cls(
            meta=meta,
            phase=text(status.get("phase")) or "Pending",
            ready=readiness.get("status") == "True",
            scheduled=scheduled.get("status") == "True",
            unschedulable=_while_false(scheduled, "message"),
            node=text(table(body, "spec").get("nodeName")),
            status_reason=text(status.get("reason")),
            status_message=text(status.get("message")),
            waiting_reason=own.waiting_reason,
            waiting_message=own.waiting_message,
            running=own.running,
            terminated=own.terminated,
            last_terminated=own.last_terminated,
            restarts=own.restarts,
            others=others,
            init=tuple(ContainerView.of(item) for item in tables(status.get("initContainerStatuses"))),
            unscheduled_since=_since(scheduled, "False"),
            ready_since=_since(readiness, "True"),
            scheduling=_while_false(scheduled, "reason"),
            scheduled_since=_since(scheduled, "True"),
            disruption=_while(conditions.get("DisruptionTarget", {}), "True"),
            started=None if own.restarts else own.started,
            began=own.reads_since,
            ends=moment(table(body, "metadata").get("deletionTimestamp")),
            container=own.name,
            with_engine=server and _has(status, c.ENGINE_CONTAINER),
        )


def _has(status: Mapping[str, Any], container: str) -> bool:
    return any(item.get("name") == container for item in tables(status.get("containerStatuses")))


def _while_false(condition: Mapping[str, Any], member: str) -> str:
    return text(condition.get(member)) if condition.get("status") == "False" else ""


def _while(condition: Mapping[str, Any], value: str) -> str:
    """Return reason and message of a condition while it has this value."""
    if condition.get("status") != value:
        return ""
    return ": ".join(part for member in ("reason", "message") if (part := text(condition.get(member)))) or "disrupted"


def _since(condition: Mapping[str, Any], value: str) -> datetime | None:
    """Return when a condition took this value; None where it has another, or does not say when."""
    return moment(condition.get("lastTransitionTime")) if condition.get("status") == value else None


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

    @property
    def merges(self) -> Sequence[JobView]:
        """Return the merge Jobs."""
        return [job for job in self.jobs if not job.is_prune]
