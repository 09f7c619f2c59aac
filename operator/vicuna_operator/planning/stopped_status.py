"""The status of a model that cannot be followed now: what was known stays, with the reason and the next step."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from vicuna_operator.api.conditions import Condition, ConditionType, Phase, Reason
from vicuna_operator.api.model import Model
from vicuna_operator.planning.blocking import refusal
from vicuna_operator.planning.next_step import next_step
from vicuna_operator.planning.status import harmless, merged_conditions

__all__ = ["conflicting", "disallowed", "invalid", "refused", "unfit"]


def invalid(model: Model, now: datetime) -> dict[str, Any]:
    """Report an invalid spec; running pods go on and are still counted."""
    error = model.spec_error
    message = f"{error}; what was running before goes on" if model.status.get("active") else str(error)
    return _stopped(model, Reason.INVALID_SPEC, message, now)


def disallowed(model: Model, refused: Sequence[str], now: datetime) -> dict[str, Any]:
    """Report that the operator's settings forbid what the spec names; running pods go on."""
    step = "name another, or ask the operator's administrator (the chart's value `allowed`)"
    return _stopped(model, Reason.NOT_ALLOWED, f"{'; '.join(refused)}: {step}", now)


def conflicting(model: Model, names: Sequence[str], now: datetime) -> dict[str, Any]:
    """Report that another object has a name that this model needs."""
    message = (
        f"{', '.join(sorted(names))} exists and belongs to something else; delete or rename it, or rename this model"
    )
    return _stopped(model, Reason.NAME_CONFLICT, message, now)


def refused(model: Model, action: str, message: str, now: datetime) -> dict[str, Any]:
    """Report that the API server refused an action: a quota, an admission webhook, missing rights."""
    step = "grant the operator the chart's roles, or correct what the message names"
    return _refused_by_server(model, f"{action}: {message}", Reason.API_REFUSED, step, now)


def unfit(model: Model, action: str, message: str, now: datetime) -> dict[str, Any]:
    """Report that the API server finds an object invalid, which is the spec's fault."""
    return _refused_by_server(
        model, f"{action}: {message}", Reason.INVALID_SPEC, "correct the field that it names", now
    )


def _refused_by_server(model: Model, answer: str, reason: Reason, step: str, now: datetime) -> dict[str, Any]:
    """Report a refusal with the reason of whoever refused: a quota or webhook, else the API server."""
    found = refusal(answer)
    if found.reason != Reason.PODS_REFUSED:
        return _stopped(model, Reason(found.reason), found.message, now)
    return _stopped(model, reason, f"{answer}; {step}", now)


def _stopped(model: Model, reason: Reason, message: str, now: datetime) -> dict[str, Any]:
    before = {item.get("type"): item for item in model.status.get("conditions") or ()}

    def kept(kind: ConditionType) -> Condition:
        old = before.get(kind)
        if old is None:
            return Condition(kind, None, reason, message)
        known = {"True": True, "False": False}.get(str(old.get("status")))
        return Condition(kind, known, str(old.get("reason")), str(old.get("message")))

    serves = before.get(ConditionType.AVAILABLE, {}).get("status") == "True"
    conditions = [
        Condition(ConditionType.READY, False, reason, message),
        kept(ConditionType.WEIGHTS_READY),
        kept(ConditionType.AVAILABLE),
        Condition(ConditionType.PROGRESSING, False, reason, ""),
        Condition(ConditionType.STALLED, True, reason, message),
        *([kept(ConditionType.DRIFTED)] if ConditionType.DRIFTED in before else []),
    ]
    changed = {
        **model.status,
        "action": next_step(model.name, reason),
        "observedGeneration": model.generation,
        "phase": str(Phase.DEGRADED if serves else Phase.FAILED),
        "reason": str(reason),
        "conditions": merged_conditions(model, conditions, now),
    }
    return harmless(changed)
