"""The next step of a rollout: how many pods each revision should have after this pass, and what that costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Note
from vicuna_operator.planning.rollout import Marks, Rollout, Stand
from vicuna_operator.planning.servers import Servers
from vicuna_operator.planning.sizes import Fleet
from vicuna_operator.planning.target import Target
from vicuna_operator.resources.common import spec_of

__all__ = ["Step", "decide_sizes"]


@dataclass(frozen=True)
class Step:
    """How many pods each revision should have, and how that came about."""

    sizes: Mapping[str, int]
    marks: Marks
    notes: Sequence[Note] = ()
    requeue_after: float | None = None


def decide_sizes(model: Model, target: Target, servers: Servers, rollout: Rollout, now: datetime) -> Step:
    """Go a step forward, a step back, or keep what the rollout has come to."""
    fleet = servers.fleet
    if rollout.stand is Stand.ROLLED_BACK and target.good is not None:
        return Step(fleet.restore(target.good), rollout.marks)
    if fleet.wanted == 0 or _is_done(target, servers, rollout):
        return Step(fleet.all_on(target.revision), rollout.marks)
    return _forward(model, target, servers, rollout, now)


def _is_done(target: Target, servers: Servers, rollout: Rollout) -> bool:
    """Tell whether no other revision has to make way: the target may have all its pods at once."""
    if rollout.stand is Stand.STEADY and not servers.fleet.others_serve(target.revision):
        return True
    held = any(item.replicas for item in servers.live if item is not target.fresh)
    return not held and not servers.fleet.elsewhere(target.revision)


def _forward(model: Model, target: Target, servers: Servers, rollout: Rollout, now: datetime) -> Step:
    fleet, fresh = servers.fleet, target.fresh
    strategy, requeue = _strategy(model, target, fleet, now)
    base = servers.active if servers.active is not fresh else None
    marks, notes = rollout.marks, _outage(model, target, fleet, rollout)
    if strategy == "Drain" and fresh is not None and not fresh.draining and rollout.stand is Stand.RUNNING:
        marks = {**marks, c.ANNOTATION_ROLLOUT: "Drain"}
        notes = [*notes, *_no_room(model, target, fleet)]
    return Step(fleet.roll(target.revision, base, strategy), marks, notes, requeue)


def _strategy(model: Model, target: Target, fleet: Fleet, now: datetime) -> tuple[str, float | None]:
    """Return the strategy that applies now, and after how many seconds that may change."""
    rollout = spec_of(model).serving.rollout
    if rollout.strategy != "Auto":
        return rollout.strategy, None
    if target.fresh is not None and target.fresh.draining:
        return "Drain", None
    # The scheduler is asked, not the nodes: a surge pod that finds no place in time makes the rollout drain.
    waited = fleet.longest_unscheduled(target.revision, now)
    if waited is None:
        return "Surge", None
    left = rollout.surge_wait_seconds - waited
    return ("Surge", left) if left > 0 else ("Drain", None)


def _outage(model: Model, target: Target, fleet: Fleet, rollout: Rollout) -> Sequence[Note]:
    """Announce, as a rollout begins, what the chosen strategy costs; Auto tells once it knows."""
    if rollout.stand is not Stand.STARTING or not fleet.others_serve(target.revision):
        return ()
    strategy = spec_of(model).serving.rollout.strategy
    if strategy == "Recreate" or (strategy == "Drain" and fleet.wanted == 1):
        message = (
            f"revision {target.revision}: strategy {strategy} stops every pod first; "
            "no answers until the new one is loaded"
        )
        return [Note("Warning", "OutageAhead", message)]
    return ()


def _no_room(model: Model, target: Target, fleet: Fleet) -> Sequence[Note]:
    """Say that Auto goes on by draining."""
    if spec_of(model).serving.rollout.strategy != "Auto":
        return ()
    one_by_one, all_at_once = "old pods go one at a time first", "the only pod stops until the new one is loaded"
    cost = one_by_one if fleet.wanted > 1 else all_at_once
    message = f"revision {target.revision}: no room for an extra pod, so {cost}"
    return [Note("Normal", "NoRoomToSurge", message)]
