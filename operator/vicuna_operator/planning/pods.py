"""A pod of a merge Job or of a serving Deployment as planning sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from vicuna_contract import names as c
from vicuna_operator.planning.containers import ContainerView, Termination, containers_of
from vicuna_operator.planning.lenient import moment, table, tables, text
from vicuna_operator.planning.meta import Body, Meta, conditions_of

__all__ = ["PodView"]


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
    began_ever: bool = True  # one of its containers has begun, at some time

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
    def never_begins(self) -> bool:
        """Tell whether it was told to end before any container began: it loads nothing and has no streams.

        Some kubelets (seen with 1.20) keep such a pod for its whole grace period.
        """
        return self.meta.deleting and not self.began_ever

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
            began_ever=_has_begun(status),
        )


def _has(status: Mapping[str, Any], container: str) -> bool:
    return any(item.get("name") == container for item in tables(status.get("containerStatuses")))


def _has_begun(status: Mapping[str, Any]) -> bool:
    """Tell whether any container of a pod runs or has run, whoever has added it."""
    listed = [*tables(status.get("initContainerStatuses")), *tables(status.get("containerStatuses"))]
    return any(item.running or item.terminated or item.last_terminated for item in map(ContainerView.of, listed))


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
