"""What keeps a revision's pods from serving, and whether waiting longer could help."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from vicuna_contract.exits import TERMINAL_EXITS
from vicuna_operator.api.conditions import Reason, format_time
from vicuna_operator.api.types import ServingSpec
from vicuna_operator.planning.blocking import BlockingReason, find_blocking_reason, refusal
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.failures import Failure, server_failure
from vicuna_operator.planning.observed import EventView
from vicuna_operator.planning.pods import PodView

__all__ = [
    "POLL_SECONDS",
    "STUCK_SECONDS",
    "PodDiagnosis",
    "deadline_of",
    "diagnose_pods",
    "is_pulling",
    "rollout_failure",
    "unexplained",
]

STUCK_SECONDS = 3.0  # the Events of a child are read once it has not started for this long
LOADING_SECONDS = 30.0  # likewise for a pod that runs and is not ready
POLL_SECONDS = 5.0  # between reads of Events, of a merge's log and of a claim that blocks a merge
_PULL_EVENTS = {"Pulling", "Pulled", "Failed", "BackOff", "Created", "Started"}
_CRASHES = 3  # so many crashes in a row end a rollout
_FOR_GOOD = {Reason.OOM_KILLED, "OutOfMemory", "KvCacheTooSmall", "DeviceUnavailable", "UsageError"}


@dataclass(frozen=True)
class PodDiagnosis:
    """What blocks a revision's pods; `failure` is set where a container ended badly."""

    blocking: BlockingReason
    failure: Failure | None = None

    @property
    def step(self) -> str:
        """Return the next step; empty where a container failed, as its message need not end with one."""
        return "" if self.failure is not None else self.blocking.step


def diagnose_pods(
    spec: ServingSpec,
    revision: str,
    deployments: Sequence[DeploymentView],
    pods: Sequence[PodView],
    events: Mapping[str, Sequence[EventView]],
) -> PodDiagnosis | None:
    """Find what keeps a revision's pods from being ready."""
    for item in deployments:
        if item.revision == revision and item.refused:
            return PodDiagnosis(refusal(item.refused))
    for pod in pods:
        if pod.revision == revision and not (pod.ready or pod.meta.deleting):
            found = _diagnose_pod(spec, pod, events.get(pod.meta.uid, ()))
            if found is not None:
                return found
    return None


def _diagnose_pod(spec: ServingSpec, pod: PodView, events: Sequence[EventView]) -> PodDiagnosis | None:
    """Tell what keeps one pod from being ready: what it waits for, else how its container ended."""
    found = find_blocking_reason(pod, events)
    if found is not None:
        subject = _asked(spec) if found.reason == Reason.UNSCHEDULABLE else f"pod {pod.meta.name}: "
        return PodDiagnosis(BlockingReason(found.reason, f"{subject}{found.message}"))
    failure = server_failure(pod)
    if failure is not None and (pod.restarts or not pod.running):
        restart = f" (restart {pod.restarts})" if pod.running else ""
        return PodDiagnosis(BlockingReason(failure.reason, f"pod {pod.meta.name}{restart}: {failure.message}"), failure)
    return None


def rollout_failure(
    revision: str,
    pods: Sequence[PodView],
    diagnosis: PodDiagnosis | None,
    *,
    overdue: datetime | None,
    deadline: int,
    now: datetime,
) -> Failure | None:
    """Tell why a rollout has failed; None while it may still succeed.

    Args:
        revision: of the rollout.
        pods: of all revisions.
        diagnosis: of the pods that make no progress, if one is known.
        overdue: when the progress deadline is over; None while it does not run.
        deadline: its length in seconds, for the message.
        now: the present time.
    """
    mine = [pod for pod in pods if pod.revision == revision and not pod.meta.deleting]
    for pod in mine:
        if (failure := _ended_for_good(pod)) is not None:
            return failure
    if overdue is None or now < overdue:
        return None
    return _too_late(revision, diagnosis, deadline, format_time(overdue))


def _too_late(revision: str, diagnosis: PodDiagnosis | None, deadline: int, overdue: str) -> Failure:
    """Say what a rollout still waited for at its deadline."""
    late = f"not ready within {deadline} s (spec.serving.rollout.progressDeadlineSeconds)"
    if diagnosis is None:
        return Failure(
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            f"revision {revision} is {late}; see `kubectl logs` of its pods",
            retryable=False,
            time=overdue,
        )
    found, ended = diagnosis.blocking, diagnosis.failure
    failure = Failure(found.reason, f"{late}: {found.message}", retryable=False, time=overdue)
    if ended is None:
        return failure
    return replace(failure, exit_code=ended.exit_code, pod=ended.pod, time=ended.time or overdue, log=ended.log)


def deadline_of(
    revision: str,
    pods: Sequence[PodView],
    events: Mapping[str, Sequence[EventView]],
    *,
    started: datetime,
    deadline: int,
    has_waited: bool,
) -> datetime | None:
    """Return when a rollout is overdue; None while no pod of the revision has what it needs to become ready.

    The deadline counts from the last progress: the start of the rollout or of a container, or a pod that became ready.
    Where the pods had to wait (`has_waited`), being scheduled is progress too. Waiting for room, scheduling gates, new
    nodes, images or old pods does not count against it.
    """
    mine = [pod for pod in pods if pod.revision == revision]
    still = [pod for pod in mine if _may_progress(pod) and not is_pulling(events.get(pod.meta.uid, ()))]
    if not still:
        return None
    ready = [pod.ready_since for pod in mine if pod.ready_since is not None]
    got_on = min(_progress(pod, started, has_waited=has_waited) for pod in still)
    return max([got_on, *ready]) + timedelta(seconds=deadline)


def is_pulling(events: Sequence[EventView]) -> bool:
    """Tell whether a pod's image is being pulled, by the kubelet's last Event about it."""
    reasons = [event.reason for event in events if event.reason in _PULL_EVENTS]
    return reasons[-1:] == ["Pulling"]


def _may_progress(pod: PodView) -> bool:
    return bool(pod.node) and not (pod.ready or pod.meta.deleting)


def _progress(pod: PodView, started: datetime, *, has_waited: bool) -> datetime:
    """Return when a pod that is not ready made progress last; being scheduled at once does not count."""
    placed, created = pod.scheduled_since or pod.meta.created, pod.meta.created
    waited = placed and created and (placed - created).total_seconds() >= STUCK_SECONDS
    known = [placed if has_waited or waited else None, pod.started]
    return max([started, *(moment for moment in known if moment is not None)])


def _ended_for_good(pod: PodView) -> Failure | None:
    failure = None if pod.ready else server_failure(pod)
    if failure is None:
        return None
    terminal = failure.exit_code in TERMINAL_EXITS or failure.reason in _FOR_GOOD
    if terminal and not failure.retryable:
        return failure
    waiting = pod.waiting_reason == "CrashLoopBackOff"
    return failure if pod.restarts + waiting >= _CRASHES else None


def _asked(spec: ServingSpec) -> str:
    if spec.num_gpus == 0:
        return ""
    total = spec.num_gpus * spec.replicas
    return f"asks for {spec.num_gpus} {spec.gpu_resource} per replica x {spec.replicas} replicas = {total}; "


def unexplained(pods: Sequence[PodView], revision: str | None, now: datetime) -> tuple[list[str], float | None]:
    """Return the uids of pods whose Events may say why they are not ready, and after how many seconds to look again."""
    mine = [pod for pod in pods if pod.revision == revision]
    due = [(pod.meta.uid, left) for pod in mine if (left := _patience(pod, now)) is not None]
    stuck = [uid for uid, left in due if left <= 0]
    again = [POLL_SECONDS] if stuck else []
    return stuck, min([*again, *(left for _, left in due if left > 0)], default=None)


def _patience(pod: PodView, now: datetime) -> float | None:
    """Return how many seconds are left until a pod's Events are read; None where they would explain nothing."""
    if not pod.scheduled or pod.meta.created is None or pod.ready or pod.meta.deleting or pod.over:
        return None
    # A running pod loads the model, and fails its probes in the first seconds.
    allowed = LOADING_SECONDS if pod.running else STUCK_SECONDS
    return allowed - (now - pod.meta.created).total_seconds()
