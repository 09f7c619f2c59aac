"""The next step of a rollout: how many pods each revision should have after this pass, and which outage that means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import NewEvent
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.rollout import AnnotationChanges, Rollout, RolloutState
from vicuna_operator.planning.servers import Servers
from vicuna_operator.planning.sizes import Fleet
from vicuna_operator.planning.target import Target
from vicuna_operator.planning.waiting import Wait, assess_wait
from vicuna_operator.resources.common import spec_of

__all__ = ["RolloutStep", "decide_step"]


@dataclass(frozen=True)
class RolloutStep:
    """How many pods each revision should have, and how that came about."""

    sizes: Mapping[str, int]
    annotations: AnnotationChanges
    new_events: Sequence[NewEvent] = ()
    requeue_after: float | None = None


def decide_step(model: Model, target: Target, servers: Servers, rollout: Rollout, now: datetime) -> RolloutStep:
    """Return the next step forward or back, or keep what the rollout has reached."""
    fleet = servers.fleet
    if rollout.state is RolloutState.ROLLED_BACK and target.last_known_good is not None:
        wait = assess_wait(model, target.deployment, target.last_known_good, servers, now)
        sizes = fleet.restore(target.last_known_good, starved=wait.over)
        return RolloutStep(sizes, {**rollout.annotations, **wait.annotations}, requeue_after=wait.left)
    if fleet.wanted == 0:
        return RolloutStep(fleet.all_on(target.revision), rollout.annotations)
    return _forward(model, target, servers, rollout, now)


def _is_done(target: Target, servers: Servers, rollout: Rollout) -> bool:
    """Tell whether no other revision serves or has pods: then the target may have all its pods at once."""
    if rollout.state is RolloutState.COMPLETE and not servers.fleet.others_serve(target.revision):
        return True
    return servers.fleet.is_alone(target.revision)


def _forward(model: Model, target: Target, servers: Servers, rollout: Rollout, now: datetime) -> RolloutStep:
    fleet, deployment, starting = servers.fleet, target.deployment, rollout.state is RolloutState.STARTING
    base = servers.active if servers.active is not deployment else None
    before = deployment.auto_strategy if deployment is not None and not starting else ""
    wait = _wait(model, target, base, servers, now)
    strategy, auto_strategy = _resolve_strategy(model, target, before, base, fleet, wait)
    annotations, new_events = {**rollout.annotations, **wait.annotations}, _outage(model, target, base, fleet, rollout)
    if auto_strategy != before and not starting:
        annotations = {**annotations, c.ANNOTATION_ROLLOUT: auto_strategy or None}
        new_events = [*new_events, *_changed(target, fleet, auto_strategy)]
    if auto_strategy != "Surge" and _is_done(target, servers, rollout):
        return RolloutStep(fleet.all_on(target.revision), annotations, new_events, wait.left)
    starved = wait.over and strategy == "Drain"
    return RolloutStep(fleet.roll(target.revision, base, strategy, starved=starved), annotations, new_events, wait.left)


def _wait(model: Model, target: Target, base: DeploymentView | None, servers: Servers, now: datetime) -> Wait:
    """Assess how the target's pods wait; without pods of another revision there is nothing to stop for them."""
    if base is None and not servers.fleet.standing(target.revision):
        return Wait()
    return assess_wait(model, target.deployment, target.deployment, servers, now)


def _resolve_strategy(
    model: Model, target: Target, before: str, base: DeploymentView | None, fleet: Fleet, wait: Wait
) -> tuple[str, str]:
    """Return the strategy that applies now, and the one that the Deployment records for `Auto`.

    The scheduler decides, not our view of the nodes: `Auto` drains when a surge pod stays unschedulable for too long.
    Where all old pods have stopped and a new one still is unschedulable, stopping was futile. Then the old ones start
    again, whatever the strategy.
    """
    stated = spec_of(model).serving.rollout.strategy
    if before == "Surge" or (wait.futile and base is not None and stated != "Surge"):
        return "Surge", "Surge"
    if stated != "Auto":
        return stated, ""
    if _can_wait(model, target, base, fleet):
        return "Surge", ""
    if before == "Drain" or wait.over:
        return "Drain", "Drain"
    return ("Drain" if _pushes(model, base, fleet) else "Surge"), ""


def _can_wait(model: Model, target: Target, base: DeploymentView | None, fleet: Fleet) -> bool:
    """Tell whether `Auto` only restarts a single pod: it serves the same as the new one, so it stays until then.

    A user who wants it stopped states Drain or Recreate.
    """
    if base is None or fleet.wanted > 1:
        return False
    return fleet.ready(base.revision) > 0 and base.is_restart_of(spec_of(model), target.artifact_id, target.images)


def _pushes(model: Model, base: DeploymentView | None, fleet: Fleet) -> bool:
    """Tell whether a surge pod might preempt the model's own pods by its PriorityClass: then one is stopped first.

    A single pod is not stopped for that: it is preempted only where there is no room, and then it has to stop anyway.
    """
    return _other_priority(model, base) and fleet.wanted > 1


def _other_priority(model: Model, base: DeploymentView | None) -> bool:
    return base is not None and base.priority != (spec_of(model).serving.priority_class_name or "")


def _may_preempt(model: Model, target: Target, base: DeploymentView | None, fleet: Fleet) -> str:
    """Return a warning that the extra pod may preempt a serving one, where the strategy does not prevent that."""
    stated = spec_of(model).serving
    if base is None or not _other_priority(model, base) or (stated.rollout.strategy == "Auto" and fleet.wanted > 1):
        return ""
    return (
        f"revision {target.revision} has PriorityClass {stated.priority_class_name or '(default)'}, the pods that serve"
        f" have {base.priority or '(default)'}: without room for an extra pod, the scheduler may preempt one of them at"
        f" once; make room, or use a PriorityClass with preemptionPolicy Never"
    )


def _outage(
    model: Model, target: Target, base: DeploymentView | None, fleet: Fleet, rollout: Rollout
) -> Sequence[NewEvent]:
    """Announce at the start of a rollout which outage its strategy means; Auto announces it once it drains."""
    if rollout.state is not RolloutState.STARTING or not fleet.others_serve(target.revision):
        return ()
    strategy = spec_of(model).serving.rollout.strategy
    if strategy in ("Auto", "Surge") and (warning := _may_preempt(model, target, base, fleet)):
        return [NewEvent("Warning", "MayPreempt", warning)]
    if strategy == "Recreate" or (strategy == "Drain" and fleet.wanted == 1):
        message = (
            f"revision {target.revision}: strategy {strategy} stops every pod first; "
            "no answers until the new one is loaded"
        )
        return [NewEvent("Warning", "OutageAhead", message)]
    return ()


def _changed(target: Target, fleet: Fleet, auto_strategy: str) -> Sequence[NewEvent]:
    """Announce that Auto drains, or that draining was futile."""
    if auto_strategy == "Surge":
        message = f"revision {target.revision}: stopping pods did not make room for it, so they start again"
        return [NewEvent("Warning", "DrainedInVain", f"{message}; it waits for what the scheduler lacks")]
    if not auto_strategy:
        return ()
    one_by_one, all_at_once = "old pods go one at a time first", "the only pod stops until the new one is loaded"
    cost = one_by_one if fleet.wanted > 1 else all_at_once
    message = f"revision {target.revision}: no room for an extra pod, so {cost}"
    return [NewEvent("Normal", "NoRoomToSurge", message)]
