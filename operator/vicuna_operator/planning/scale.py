"""Autoscaling of one model: what its objects and its status say of it, and what its status gets to say."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from vicuna_operator.api.conditions import Reason
from vicuna_operator.api.model import Model
from vicuna_operator.planning.autoscaling import Decision, Situation, decide
from vicuna_operator.planning.lenient import INT32, moment, text, whole
from vicuna_operator.planning.observed import Observed
from vicuna_operator.planning.rollout import given_up
from vicuna_operator.planning.servers import Servers
from vicuna_operator.planning.target import Target
from vicuna_operator.resources.common import spec_of

__all__ = ["decide_scale", "scale_status", "with_replicas"]


def decide_scale(
    model: Model, target: Target | None, servers: Servers, seen: Observed, verification: str, now: datetime
) -> Decision | None:
    """Decide how many replicas there should be; None where the spec states it.

    `target` is None while it is not known; `verification` as for the rollout.
    """
    spec = spec_of(model)
    if spec.serving.autoscaling is None or spec.suspend:
        return None
    situation = Situation(
        demand=seen.demand,
        current=_current(model, servers),
        trying=spec.serving.rollout.try_asleep and _is_untried(model, target, servers, verification),
        idle_from=_tried_at(target),
        rivals=tuple(seen.autoscalers),
    )
    return decide(spec.serving.autoscaling, situation, now)


def with_replicas(model: Model, replicas: int) -> Model:
    """Return the model as if its spec stated this number of replicas."""
    spec = spec_of(model)
    return replace(
        model, spec=spec.model_copy(update={"serving": spec.serving.model_copy(update={"replicas": replicas})})
    )


def scale_status(before: Mapping[str, Any], decision: Decision) -> Mapping[str, Any]:
    """Return `status.autoscaling`: what it was before while the number is the same and nothing keeps it from changing.

    The demand changes all the time; it is told as it was when the number was decided.
    """
    now = {
        "desiredReplicas": decision.desired,
        "demand": decision.demand,
        "reason": str(decision.reason),
        "message": decision.message,
    }
    was_free = text(before.get("reason")) not in ("", Reason.TWO_SCALERS, Reason.DEMAND_UNKNOWN)
    if was_free and decision.is_free and before.get("desiredReplicas") == decision.desired:
        return before
    return {key: value for key, value in now.items() if value is not None}


def _current(model: Model, servers: Servers) -> int | None:
    """Return the number decided last: by the status, else by what the Deployments were given."""
    noted = whole((model.status.get("autoscaling") or {}).get("desiredReplicas"), -1, most=INT32)
    if noted >= 0:
        return noted
    given = [item.replicas if item.set_replicas is None else item.set_replicas for item in servers.live]
    return max(given, default=None)


def _is_untried(model: Model, target: Target | None, servers: Servers, verification: str) -> bool:
    """Tell whether the revision that should serve has not yet shown that it works, nor failed to."""
    if target is None:
        return servers.active is None
    there = target.deployment
    if there is None:
        return True
    return not given_up(model, there, verification) and (there.completed is None or there.started is not None)


def _tried_at(target: Target | None) -> datetime | None:
    """Return when the revision was tried last: from then on idleness counts."""
    there = target.deployment if target is not None else None
    if there is None:
        return None
    ended = [there.completed, moment(str((there.failed or {}).get("at", "")))]
    return max((at for at in ended if at is not None), default=None)
