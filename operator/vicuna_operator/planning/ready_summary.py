"""What the condition Ready says, and whether the model still progresses: one summary over weights and serving."""

from dataclasses import dataclass, replace

from vicuna_operator.api.conditions import Phase, Reason, format_time
from vicuna_operator.api.model import Model
from vicuna_operator.planning.diagnosis import PodDiagnosis
from vicuna_operator.planning.pods import PodView
from vicuna_operator.planning.rollout import RolloutState
from vicuna_operator.planning.serving_stage import ServingStage
from vicuna_operator.planning.weights_stage import WeightsStage
from vicuna_operator.resources.common import spec_of

__all__ = ["ReadySummary", "summarize_ready"]


@dataclass(frozen=True)
class ReadySummary:
    """What the conditions are made from: reason and message of Ready, and whether the model still progresses."""

    reason: str
    message: str
    phase: Phase
    ready: bool = False
    stalled: bool = False
    progressing: bool = False
    step: str = ""  # the next step for the user, where the cause names one


def summarize_ready(model: Model, weights: WeightsStage, serving: ServingStage, ready_all: int) -> ReadySummary:
    """Summarize a model with a valid spec; `ready_all` counts the ready pods of all its revisions."""
    if spec_of(model).suspend:
        return ReadySummary(Reason.SUSPENDED, "spec.suspend is true: no pods, the weights are kept", Phase.SUSPENDED)
    if weights.artifact_id is None:
        return _merging(weights, ready_all)
    if serving.fault:
        phase = Phase.DEGRADED if ready_all else Phase.FAILED
        return ReadySummary(Reason.INVALID_SPEC, serving.fault, phase, stalled=True)
    return _unserved(serving, ready_all) or _serving(model, serving, ready_all, weights.unresolved)


def _unserved(serving: ServingStage, ready_all: int) -> ReadySummary | None:
    """Summarize a model that should have no pods, or whose autoscaling is held up; None for every other."""
    scale, wanted = serving.scale, serving.fleet.wanted
    if scale is None:
        zero = ReadySummary(Reason.SCALED_TO_ZERO, "spec.serving.replicas is 0", Phase.SUSPENDED)
        return zero if wanted == 0 else None
    if scale.reason == Reason.TWO_SCALERS or (wanted == 0 and not scale.is_free):
        phase = Phase.DEGRADED if ready_all else Phase.FAILED
        return ReadySummary(scale.reason, scale.message, phase, stalled=True)
    if wanted == 0 and serving.rollout.state is not RolloutState.ROLLED_BACK:
        message = "no pods while nobody asks; a request through a gateway wakes the model"
        return ReadySummary(Reason.ASLEEP, message, Phase.ASLEEP)
    return None


def _serving(model: Model, serving: ServingStage, ready_all: int, unresolved: str) -> ReadySummary:
    summary = _of_pods(model, serving, ready_all)
    if unresolved and not summary.ready:
        message = f"{summary.message}; {unresolved}"
        summary = replace(summary, message=message, stalled=True, progressing=False)
    return replace(summary, message="; ".join([summary.message, *map(_still_there, serving.lost)]))


def _still_there(pod: PodView) -> str:
    """Report a pod that should have ended, which the user has to delete."""
    by = format_time(pod.ends) if pod.ends is not None else "now"
    return (
        f"pod {pod.meta.name} on node {pod.node or '(none)'} should have ended by {by} and counts no more; where its"
        f" node is gone, run `kubectl delete pod {pod.meta.name} --force`; where a finalizer keeps it, remove that"
    )


def _of_pods(model: Model, serving: ServingStage, ready_all: int) -> ReadySummary:
    settled = _settled(model, serving, ready_all)
    if settled is not None:
        return settled
    if serving.diagnosis is not None:
        return _blocked(serving, serving.diagnosis, ready_all)
    return _moving(serving, ready_all)


def _settled(model: Model, serving: ServingStage, ready_all: int) -> ReadySummary | None:
    """Summarize a rollout that has ended: rolled back, complete, or failed without an earlier revision."""
    target, active = serving.target or "", serving.active.revision if serving.active is not None else None
    target_ready, rollout = serving.fleet.ready(target), serving.rollout
    if rollout.state is RolloutState.ROLLED_BACK:
        return ReadySummary(Reason.ROLLED_BACK, _rolled_back(model, serving), Phase.DEGRADED, stalled=True)
    if target_ready >= serving.fleet.wanted and active == target and ready_all == target_ready:
        return ReadySummary(Reason.READY, f"revision {active} serves", Phase.READY, ready=True)
    if rollout.state is RolloutState.FAILED and (failure := rollout.failure):
        message = f"{failure['message']}; there is no earlier revision to go back to"
        return ReadySummary(
            str(failure["reason"]), message, Phase.DEGRADED if ready_all else Phase.FAILED, stalled=True
        )
    return None


def _blocked(serving: ServingStage, diagnosis: PodDiagnosis, ready_all: int) -> ReadySummary:
    """Summarize a rollout whose pods are blocked, but may still become ready."""
    reason, message = diagnosis.blocking.reason, diagnosis.blocking.message
    phase = Phase.FAILED
    if reason in (Reason.UNSCHEDULABLE, Reason.SCHEDULING_GATED):
        phase = Phase.PENDING
        message = "; ".join([message, *map(_ending, serving.fleet.terminating)])
    return ReadySummary(reason, message, Phase.DEGRADED if ready_all else phase, progressing=True, step=diagnosis.step)


def _moving(serving: ServingStage, ready_all: int) -> ReadySummary:
    """Summarize a rollout that progresses."""
    wanted, target, active = serving.fleet.wanted, serving.target or "", serving.active
    target_ready = serving.fleet.ready(target)
    if active is not None and active.revision != target:
        message = f"revision {active.revision} serves, {target} has {target_ready} of {wanted} pods ready"
        message = "; ".join([message, *map(_ending, serving.fleet.terminating), *map(_pulling, serving.pulling)])
        return ReadySummary(Reason.ROLLING_OUT, message, Phase.DEPLOYING, progressing=True)
    if ready_all > target_ready or target_ready > wanted:
        return ReadySummary(Reason.ROLLING_OUT, "pods of an earlier size or revision are ending", Phase.DEPLOYING)
    if target_ready:
        message = f"{target_ready} of {wanted} pods are ready"
        return ReadySummary(Reason.PARTLY_AVAILABLE, message, Phase.DEPLOYING, progressing=True)
    message = "; ".join(["the pods are loading the model", *map(_pulling, serving.pulling)])
    return ReadySummary(Reason.STARTING, message, Phase.DEPLOYING, progressing=True)


def _ending(pod: PodView) -> str:
    until = f", until {format_time(pod.ends)} at the latest" if pod.ends is not None else ""
    return f"pod {pod.meta.name} on node {pod.node} ends its streams{until}"


def _pulling(pod: PodView) -> str:
    return f"pod {pod.meta.name} on node {pod.node} is pulling its image"


def _rolled_back(model: Model, serving: ServingStage) -> str:
    failure = serving.rollout.failure or {}
    back = serving.last_known_good.revision if serving.last_known_good is not None else "the last known good one"
    message = (
        f"revision {serving.target} failed and {back} serves again: {failure.get('reason')}: {failure.get('message')}"
    )
    if serving.diagnosis is not None:
        message += f"; revision {back}: {serving.diagnosis.blocking.message}"
    return f"{message}; correct the spec, or try again with `kubectl vicuna retry {model.name}`"


def _merging(weights: WeightsStage, ready_all: int) -> ReadySummary:
    phase = Phase.MERGING if weights.running else Phase.PENDING
    if weights.stalled:
        phase = Phase.DEGRADED if ready_all else Phase.FAILED
    return ReadySummary(
        weights.reason,
        weights.message,
        phase,
        stalled=weights.stalled,
        progressing=not weights.stalled,
        step=weights.step,
    )
