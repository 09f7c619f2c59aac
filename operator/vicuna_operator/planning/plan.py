"""plan(): from the observed state to the next actions. Pure and level-triggered: any event may be lost.

The stages are those of the model's way through the system (docs/architecture.md): weights, then serving, then status.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from vicuna_operator.api.conditions import CALM_REASONS, ConditionType, Reason, find_condition
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import NewEvent, Plan
from vicuna_operator.planning.adoption import adopt
from vicuna_operator.planning.allowed import not_allowed
from vicuna_operator.planning.attempts import claims_to_read
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.decision import decision_fields
from vicuna_operator.planning.diagnosis import POLL_SECONDS, unexplained
from vicuna_operator.planning.drift import drift_condition, find_drift
from vicuna_operator.planning.held import held_status, without_taken
from vicuna_operator.planning.observed import Observed
from vicuna_operator.planning.pruning import plan_pruning
from vicuna_operator.planning.serving import plan_serving
from vicuna_operator.planning.status import build_status
from vicuna_operator.planning.stopped_status import conflicting, disallowed, invalid
from vicuna_operator.planning.storage import growth
from vicuna_operator.planning.weights import plan_weights
from vicuna_operator.resources.common import claim_name

__all__ = ["claims_to_read", "plan"]

_ADOPTED_SECONDS = 1.0


def plan(model: Model, seen: Observed, config: PlanConfig, now: datetime) -> Plan:
    """Decide the next step for one model.

    A model that is being deleted needs no action, since the garbage collector follows the ownerReferences. Its status
    says so where a finalizer keeps it. An invalid spec changes no child. `now` is an aware UTC time.
    """
    if model.deleting:
        return _only_told(model, held_status(model, now))
    if model.spec is None:
        return _only_told(model, invalid(model, now))
    if refused := not_allowed(model.spec, config.allowed):
        return _only_told(model, disallowed(model, refused, now))
    made = _next_step(model, seen, config, now)
    adopting, adopted = adopt(model, seen, config)
    if adopting:  # alone and first: the next pass then sees children with an owner
        return Plan(actions=adopting, status=made.status, new_events=adopted, requeue_after=_ADOPTED_SECONDS)
    return made


def _only_told(model: Model, status: Mapping[str, Any] | None) -> Plan:
    """Plan no action, only the status that says why; None where there is nothing to say."""
    if status is None:
        return Plan(decision={"reason": "Deleting"})
    decision = {"generation": model.generation, "reason": status.get("reason", "")}
    return Plan(status=status, new_events=_transitions(model, status), decision=decision)


def _next_step(model: Model, seen: Observed, config: PlanConfig, now: datetime) -> Plan:
    weights = plan_weights(model, seen, config, now)
    serving = plan_serving(model, weights, seen, config, now)
    pruning, pruned, prune_later = plan_pruning(model, weights, seen, config, now)
    if seen.conflicts:
        status = conflicting(model, seen.conflicts, now)
    else:
        drift = drift_condition(find_drift(model, seen, config, serving.fleet.live, serving.contested))
        status = build_status(model, weights, serving, config, now, drift)
    stuck, look_again = unexplained(seen.pods, serving.target, now)
    waits = [
        weights.requeue_after,
        serving.requeue_after,
        serving.scale.requeue_after if serving.scale is not None else None,
        look_again,
        prune_later,
        POLL_SECONDS if seen.conflicts else None,
    ]
    again = min((wait for wait in waits if wait is not None), default=None)
    grown = growth(model, seen.claims.get(claim_name(model)))
    new_events = [*weights.new_events, *serving.new_events, *pruned]
    actions = without_taken([*weights.actions, *serving.actions, *pruning, *grown], seen)
    return Plan(
        actions=actions,
        status=status,
        new_events=[*new_events, *_transitions(model, status, new_events)],
        requeue_after=again,
        ask_events=[*weights.ask_events, *stuck],
        read_progress=weights.merge_pod,
        dry_run=weights.dry_run,
        enough_for=serving.scale.enough_for if serving.scale is not None else None,
        decision=decision_fields(model, weights, serving, status, actions, again),
    )


def _transitions(model: Model, status: Mapping[str, Any], others: Sequence[NewEvent] = ()) -> Sequence[NewEvent]:
    """Return Events where the reason of Ready or Drifted has changed.

    That a merge waits for its pod is left out where this pass already reports that its Job was created.
    """
    unchanged = {Reason.MERGE_PENDING} if any(event.reason == "MergeStarted" for event in others) else set()
    new_events = []
    for kind in (ConditionType.READY, ConditionType.DRIFTED):
        before, after = find_condition(model.status, kind), find_condition(status, kind)
        if after and after["reason"] not in (*unchanged, before.get("reason")):
            calm = after["reason"] in CALM_REASONS
            new_events.append(NewEvent("Normal" if calm else "Warning", after["reason"], after["message"]))
    return new_events
