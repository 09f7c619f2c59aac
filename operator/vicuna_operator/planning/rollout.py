"""Where the rollout of the target revision stands, and what its Deployment must remember of it.

The marks are annotations (see `deployments`): `started` while a rollout is under way, `completed` once all replicas
were ready together, `failed` when it was given up. A failed one is not tried again for the same attempt.
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
from vicuna_operator.planning.failures import Failure, failure_report
from vicuna_operator.planning.sizes import Fleet
from vicuna_operator.planning.trouble import Trouble, rollout_failure
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.identity import rollout_attempt

__all__ = ["UNMARKED", "Limit", "Marks", "Rollout", "Stand", "judge", "last_good"]

Marks = Mapping[str, str | None]

UNMARKED: Marks = {
    c.ANNOTATION_ROLLOUT: None,
    c.ANNOTATION_ROLLOUT_WAITING: None,
    c.ANNOTATION_ROLLOUT_STARTED: None,
    c.ANNOTATION_ROLLOUT_FAILED: None,
}
_MAX_MESSAGE = 2048


class Stand(Enum):
    """What the target revision is doing."""

    IDLE = auto()  # no pods wanted
    STARTING = auto()  # its rollout begins with this plan
    RUNNING = auto()
    STEADY = auto()  # it was complete; what happens to its pods now is no rollout
    ROLLED_BACK = auto()
    HOPELESS = auto()  # it failed, and there is nothing to go back to


@dataclass(frozen=True)
class Rollout:
    """The verdict; `marks` are the annotations to set or (None) remove, `failure` members of status.lastFailure."""

    stand: Stand
    marks: Marks = field(default_factory=dict)
    failure: Mapping[str, object] | None = None
    requeue_after: float | None = None


@dataclass(frozen=True)
class Limit:
    """When a rollout is overdue, None while it only waits; and what is known of the pods that make no progress."""

    overdue: datetime | None = None
    trouble: Trouble | None = None


def last_good(live: Sequence[DeploymentView], target: str, active: DeploymentView | None) -> DeploymentView | None:
    """Return the revision to go back to: the one that was complete last, else the one that serves."""
    others = [item for item in live if item.revision != target]
    proven = [(item.completed, item is active, item) for item in others if item.completed is not None]
    if proven:
        return max(proven, key=lambda entry: entry[:2])[2]
    return active if active in others else None


def judge(
    model: Model,
    fresh: DeploymentView | None,
    good: DeploymentView | None,
    fleet: Fleet,
    limit: Limit,
    now: datetime,
    *,
    serving: bool,
    look: str,
) -> Rollout:
    """Decide where the rollout of the target stands.

    `fresh` is its Deployment, None before there is one; `serving` tells whether it is the active revision. `look` is
    the last one at its artifact, empty where there was none: weights that were found or made right are tried again.
    """
    attempt = _attempt(model, look)
    if fresh is None:
        return _starting(now) if fleet.wanted else Rollout(Stand.IDLE)
    if good is not None and _was_given_up(fresh, attempt):
        return Rollout(Stand.ROLLED_BACK, failure=fresh.failed)
    if fleet.wanted == 0:
        return _idle(fresh)
    if _is_complete(fresh, fleet):
        return _steady(fresh, fleet, now)
    if fresh.started is not None:
        return _under_way(model, fresh, good, fleet, limit, attempt, now)
    if serving and _has_succeeded(fresh):
        return _at_rest(fresh, fleet)  # its pods may come and go: that is not a rollout
    return _starting(now)


def _is_complete(fresh: DeploymentView, fleet: Fleet) -> bool:
    """Tell whether all its replicas are ready, or at the end of a rollout as many as there is room for."""
    enough = fleet.ready(fresh.revision) >= fleet.wanted
    return enough or (fresh.started is not None and fleet.goes_no_further(fresh.revision))


def _attempt(model: Model, look: str) -> str:
    words = [model.annotations.get(c.ANNOTATION_RETRY, ""), *([look] if look else [])]
    return rollout_attempt(spec_of(model), retry=" ".join(words))


def _was_given_up(fresh: DeploymentView, attempt: str) -> bool:
    """Tell whether this very attempt has failed before; another one may try again."""
    return fresh.failed is not None and fresh.failed.get("attempt") == attempt


def _has_succeeded(fresh: DeploymentView) -> bool:
    return fresh.completed is not None and fresh.failed is None


def _idle(fresh: DeploymentView) -> Rollout:
    """Forget a rollout that nobody waits for any more."""
    return Rollout(Stand.IDLE, UNMARKED if fresh.started or fresh.failed else {})


def _starting(now: datetime) -> Rollout:
    return Rollout(Stand.STARTING, {**UNMARKED, c.ANNOTATION_ROLLOUT_STARTED: format_time(now)})


def _at_rest(fresh: DeploymentView, fleet: Fleet) -> Rollout:
    """Let it be; how it made room for itself is forgotten once it has to share with no other revision."""
    remembers = fresh.way or fresh.waiting[1]
    return Rollout(Stand.STEADY, UNMARKED if remembers and not fleet.elsewhere(fresh.revision) else {})


def _steady(fresh: DeploymentView, fleet: Fleet, now: datetime) -> Rollout:
    """Mark the rollout as complete, once."""
    if _has_succeeded(fresh) and not fresh.started:
        return _at_rest(fresh, fleet)
    return Rollout(Stand.STEADY, {**UNMARKED, c.ANNOTATION_ROLLOUT_COMPLETED: format_time(now)})


def _under_way(
    model: Model,
    fresh: DeploymentView,
    good: DeploymentView | None,
    fleet: Fleet,
    limit: Limit,
    attempt: str,
    now: datetime,
) -> Rollout:
    """Let it run until its deadline or a failure for good; then go back, where there is something to go back to."""
    deadline = spec_of(model).serving.rollout.progress_deadline_seconds
    failure = rollout_failure(
        fresh.revision, fleet.pods, limit.trouble, overdue=limit.overdue, deadline=deadline, now=now
    )
    if failure is None:
        left = None if limit.overdue is None else (limit.overdue - now).total_seconds()
        return Rollout(Stand.RUNNING, requeue_after=left)
    if good is None:
        return Rollout(Stand.HOPELESS, failure=failure_report(failure))
    return _given_up(failure, attempt, now)


def _given_up(failure: Failure, attempt: str, now: datetime) -> Rollout:
    told = {**failure_report(failure), "attempt": attempt, "at": format_time(now)}
    told["message"] = str(told["message"])[:_MAX_MESSAGE]
    return Rollout(Stand.ROLLED_BACK, {**UNMARKED, c.ANNOTATION_ROLLOUT_FAILED: json.dumps(told)}, told)
