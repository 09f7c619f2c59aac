"""The next step for the user, as one sentence: `status.action`.

A blocking reason brings its own step; otherwise the reason decides.
"""

from collections.abc import Mapping

from vicuna_contract.reasons import MERGE_REASONS, SERVE_REASONS
from vicuna_operator.api.conditions import Reason

__all__ = ["next_step"]

_MOST = 1024
_RETRY = "correct what the message names, then `kubectl vicuna retry {name}`"
_MERGE_ENDS = "nothing: it goes on automatically; see `kubectl vicuna logs {name} --merge --follow`"
_LOADS = "nothing: it goes on automatically; see `kubectl vicuna logs {name} --follow`"
_LOOK = "see `kubectl vicuna status {name}`, and correct what the message names"

_BY_REASON: Mapping[str, str] = {
    Reason.SUSPENDED: "set spec.suspend to false",
    Reason.SCALED_TO_ZERO: "`kubectl scale vicunamodel/{name} --replicas=1`",
    Reason.ASLEEP: "a request through a gateway, or spec.serving.autoscaling.minReplicas of 1",
    Reason.TWO_SCALERS: "delete the HorizontalPodAutoscaler that the message names, or remove spec.serving.autoscaling",
    Reason.DEMAND_UNKNOWN: "grant the operator the chart's roles (vicunausages in its own namespace), or set"
    " spec.serving.autoscaling.minReplicas to 1",
    Reason.NOT_ALLOWED: "name something that is allowed here, or ask the operator's administrator",
    Reason.INVALID_SPEC: "correct the field that the message names",
    Reason.NAME_CONFLICT: "delete or rename what the message names, or rename this model",
    Reason.API_REFUSED: "grant the operator the chart's roles, or correct what the message names",
    Reason.CLAIM_NOT_FOUND: "create the PersistentVolumeClaim that the message names, or correct its name in the spec",
    Reason.CLAIM_PENDING: "nothing once the old claim is gone; find what still uses it",
    Reason.MERGE_PENDING: _MERGE_ENDS,
    Reason.MERGING: _MERGE_ENDS,
    Reason.MERGE_RETRYING: "nothing: the operator tries again; remove the cause that the message names",
    Reason.STARTING: _LOADS,
    Reason.PARTLY_AVAILABLE: _LOADS,
    Reason.ROLLING_OUT: _LOADS,
    Reason.ROLLED_BACK: "correct the spec, or try again with `kubectl vicuna retry {name}`",
    Reason.OOM_KILLED: "raise the memory limit that the message names",
    Reason.DEADLINE_EXCEEDED: "raise spec.merge.activeDeadlineSeconds",
    Reason.EVICTED: "nothing: another pod is made; free its node, or raise the pod's requests, if it happens again",
    Reason.POD_LOST: "nothing: the operator tries again",
    Reason.CRASHED: "see `kubectl vicuna logs {name} --previous`",
    Reason.ENGINE_CRASHED: "see `kubectl vicuna logs {name} --engine --previous`",
    Reason.PROGRESS_DEADLINE_EXCEEDED: "see `kubectl vicuna logs {name}`; raise"
    " spec.serving.rollout.progressDeadlineSeconds for a model that loads slowly",
    **dict.fromkeys(MERGE_REASONS - SERVE_REASONS, _RETRY),
}


def next_step(name: str, reason: str, step: str = "") -> str | None:
    """Return the next step for a state with this reason; None for a model that is ready.

    `step` is the blocking reason's own, empty where there is none.
    """
    if reason == Reason.READY:
        return None
    return step[:_MOST] or _BY_REASON.get(reason, _LOOK).format(name=name)
