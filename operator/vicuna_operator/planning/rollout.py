"""The state of the target revision's rollout, and what its Deployment records of it.

The record is in annotations (see `deployments`): `started` while a rollout is under way, `completed` once all replicas
were ready together, `failed` once it has failed. A failed rollout is not tried again for the same attempt.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time
from vicuna_operator.api.model import Model
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.diagnosis import PodDiagnosis, rollout_failure
from vicuna_operator.planning.failures import Failure, failure_report
from vicuna_operator.planning.sizes import Fleet
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.identity import rollout_attempt

__all__ = [
    "CLEARED",
    "AnnotationChanges",
    "ProgressDeadline",
    "Rollout",
    "RolloutState",
    "evaluate_rollout",
    "find_last_known_good",
    "given_up",
]

AnnotationChanges = Mapping[str, str | None]

CLEARED: AnnotationChanges = {
    c.ANNOTATION_ROLLOUT: None,
    c.ANNOTATION_ROLLOUT_WAITING: None,
    c.ANNOTATION_ROLLOUT_STARTED: None,
    c.ANNOTATION_ROLLOUT_FAILED: None,
}
_MAX_MESSAGE = 2048


class RolloutState(Enum):
    """What the target revision is doing."""

    IDLE = auto()  # no pods wanted
    STARTING = auto()  # its rollout starts with this plan
    PROGRESSING = auto()
    COMPLETE = auto()  # all pods were ready once; what happens to them now is not a rollout
    ROLLED_BACK = auto()
    FAILED = auto()  # it failed, and there is no earlier revision to go back to


@dataclass(frozen=True)
class Rollout:
    """State of a rollout; `annotations` are to be set or (None) removed, `failure` is as in status.lastFailure."""

    state: RolloutState
    annotations: AnnotationChanges = field(default_factory=dict)
    failure: Mapping[str, object] | None = None
    requeue_after: float | None = None


@dataclass(frozen=True)
class ProgressDeadline:
    """When a rollout is overdue, None while it only waits; and the diagnosis of the pods that make no progress."""

    overdue: datetime | None = None
    diagnosis: PodDiagnosis | None = None


def find_last_known_good(
    live: Sequence[DeploymentView], revision: str, active: DeploymentView | None
) -> DeploymentView | None:
    """Return the revision to go back to: the one that was complete last, else the one that serves."""
    others = [item for item in live if item.revision != revision]
    proven = [(item.completed, item is active, item) for item in others if item.completed is not None]
    if proven:
        return max(proven, key=lambda entry: entry[:2])[2]
    return active if active in others else None


def evaluate_rollout(
    model: Model,
    target: DeploymentView | None,
    last_known_good: DeploymentView | None,
    fleet: Fleet,
    limit: ProgressDeadline,
    now: datetime,
    *,
    serving: bool,
    verification: str,
) -> Rollout:
    """Return the state of the target's rollout.

    `target` is its Deployment, None before there is one; `serving` says whether it is the active revision.
    `verification` is the key of the artifact's last one, empty where there was none: verified weights are tried again.
    """
    if target is None:
        return _starting(now) if fleet.wanted else Rollout(RolloutState.IDLE)
    if last_known_good is not None and given_up(model, target, verification):
        return Rollout(RolloutState.ROLLED_BACK, failure=target.failed)
    if fleet.wanted == 0:
        return _idle(target)
    if _is_complete(target, fleet):
        return _steady(target, fleet, now)
    if target.started is not None:
        attempt = _attempt(model, verification)
        return _under_way(model, target, last_known_good, fleet, limit, attempt, now)
    if serving and _has_succeeded(target):
        return _at_rest(target, fleet)  # a pod that restarts or is rescheduled does not start a rollout
    return _starting(now)


def _is_complete(target: DeploymentView, fleet: Fleet) -> bool:
    """Tell whether all its replicas are ready, or at the end of a rollout as many as there is room for."""
    enough = fleet.ready(target.revision) >= fleet.wanted
    return enough or (target.started is not None and fleet.goes_no_further(target.revision))


def _attempt(model: Model, verification: str) -> str:
    words = [model.annotations.get(c.ANNOTATION_RETRY, ""), *([verification] if verification else [])]
    return rollout_attempt(spec_of(model), retry=" ".join(words))


def given_up(model: Model, target: DeploymentView, verification: str) -> bool:
    """Tell whether this attempt has failed before; `verification` as for `evaluate_rollout`."""
    return target.failed is not None and target.failed.get("attempt") == _attempt(model, verification)


def _has_succeeded(target: DeploymentView) -> bool:
    return target.completed is not None and target.failed is None


def _idle(target: DeploymentView) -> Rollout:
    """Clear the record of a rollout that is not wanted any more."""
    return Rollout(RolloutState.IDLE, CLEARED if target.started or target.failed else {})


def _starting(now: datetime) -> Rollout:
    return Rollout(RolloutState.STARTING, {**CLEARED, c.ANNOTATION_ROLLOUT_STARTED: format_time(now)})


def _at_rest(target: DeploymentView, fleet: Fleet) -> Rollout:
    """Change nothing, but clear the record of `Auto`'s strategy once no other revision has pods."""
    remembers = target.auto_strategy or target.waiting[1]
    return Rollout(RolloutState.COMPLETE, CLEARED if remembers and not fleet.elsewhere(target.revision) else {})


def _steady(target: DeploymentView, fleet: Fleet, now: datetime) -> Rollout:
    """Record that the rollout is complete, once."""
    if _has_succeeded(target) and not target.started:
        return _at_rest(target, fleet)
    return Rollout(RolloutState.COMPLETE, {**CLEARED, c.ANNOTATION_ROLLOUT_COMPLETED: format_time(now)})


def _under_way(
    model: Model,
    target: DeploymentView,
    last_known_good: DeploymentView | None,
    fleet: Fleet,
    limit: ProgressDeadline,
    attempt: str,
    now: datetime,
) -> Rollout:
    """Let it run until its deadline or a terminal failure; then roll back where there is a revision to go back to."""
    deadline = spec_of(model).serving.rollout.progress_deadline_seconds
    failure = rollout_failure(
        target.revision, fleet.pods, limit.diagnosis, overdue=limit.overdue, deadline=deadline, now=now
    )
    if failure is None:
        left = None if limit.overdue is None else (limit.overdue - now).total_seconds()
        return Rollout(RolloutState.PROGRESSING, requeue_after=left)
    if last_known_good is None:
        return Rollout(RolloutState.FAILED, failure=failure_report(failure))
    return _given_up(failure, attempt, now)


def _given_up(failure: Failure, attempt: str, now: datetime) -> Rollout:
    record = {**failure_report(failure), "attempt": attempt, "at": format_time(now)}
    record["message"] = str(record["message"])[:_MAX_MESSAGE]
    return Rollout(RolloutState.ROLLED_BACK, {**CLEARED, c.ANNOTATION_ROLLOUT_FAILED: json.dumps(record)}, record)
