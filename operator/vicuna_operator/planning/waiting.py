"""How long a rollout has waited for room, and whether a running pod must be stopped for it.

The operator's own clock measures it, from when it first saw the situation, which the Deployment records. So the
scheduler's clock does not matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time
from vicuna_operator.api.model import Model
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.pods import PodView
from vicuna_operator.planning.room import makes_room
from vicuna_operator.planning.servers import Servers
from vicuna_operator.planning.sizes import Fleet
from vicuna_operator.resources.common import spec_of

__all__ = ["Wait", "assess_wait"]

_SCHEDULER_SECONDS = 30


@dataclass(frozen=True)
class Wait:
    """What a rollout waits for.

    `over`: a pod has waited long enough for what a running pod of another revision holds. `futile`: it waits although
    no other pod runs any more. `left`: seconds until that may change.
    """

    over: bool = False
    futile: bool = False
    left: float | None = None
    annotations: Mapping[str, str | None] = field(default_factory=dict)


def assess_wait(
    model: Model, record: DeploymentView | None, wanted: DeploymentView | None, servers: Servers, now: datetime
) -> Wait:
    """Assess how the pods of `wanted` wait; `record` is the Deployment that records since when."""
    if record is None or wanted is None:
        return Wait()
    fleet = servers.fleet
    situation = fleet.situation(wanted.revision)
    if not situation:
        return Wait()
    since, known = record.waiting
    if since is None or known != situation:
        since, annotations = now, {c.ANNOTATION_ROLLOUT_WAITING: f"{format_time(now)} {situation}"}
    else:
        annotations = {}
    left = _patience(model, fleet, wanted.revision) - (now - since).total_seconds()
    if left > 0:
        return Wait(left=left, annotations=annotations)
    # Terminating or starting pods will change the situation anyway.
    if fleet.terminating or fleet.starting(wanted.revision):
        return Wait(annotations=annotations)
    return Wait(
        over=_would_help(wanted, servers, fleet.queue(wanted.revision)),
        futile=_alone(fleet, wanted),
        annotations=annotations,
    )


def _patience(model: Model, fleet: Fleet, revision: str) -> int:
    """Return how many seconds a pod waits before another is stopped for it.

    Where fewer run than are wanted, room may just have been made: the scheduler retries a pod within 10 s.
    """
    stated = spec_of(model).serving.rollout.surge_wait_seconds
    return stated if len(fleet.standing(revision)) >= fleet.wanted else max(stated, _SCHEDULER_SECONDS)


def _alone(fleet: Fleet, wanted: DeploymentView) -> bool:
    return not fleet.elsewhere(wanted.revision) and not fleet.ready(wanted.revision)


def _would_help(wanted: DeploymentView, servers: Servers, queue: Sequence[PodView]) -> bool:
    """Tell whether a running pod holds what a waiting one lacks."""
    standing = {pod.revision for pod in servers.fleet.standing(wanted.revision)}
    holders = [item for item in servers.live if item.revision in standing]
    return any(makes_room(pod.unschedulable, wanted, item) for pod in queue for item in holders)
