"""The status object of a VicunaModel: what was observed, for machines and for people."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from vicuna_contract import names as c
from vicuna_contract.printable import printable
from vicuna_operator.api.conditions import (
    Condition,
    ConditionType,
    Phase,
    Reason,
    find_condition,
    format_time,
    merge_conditions,
)
from vicuna_operator.api.model import Model
from vicuna_operator.planning.attempts import WeightsStage
from vicuna_operator.planning.blocking import refusal
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.deployments import uids_on_pods
from vicuna_operator.planning.failures import failure_report
from vicuna_operator.planning.history import with_outcomes
from vicuna_operator.planning.merge_progress import merge_progress
from vicuna_operator.planning.next_step import next_step
from vicuna_operator.planning.ready_summary import ReadySummary, summarize_ready
from vicuna_operator.planning.serving import ServingStage
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.service import pod_selector

__all__ = ["build_status", "conflicting", "disallowed", "invalid", "refused", "unfit"]

_MOST_FORMER_UIDS, _MOST_OF_A_UID = 10, 64
_NOT_A_REASON = re.compile(r"[^A-Za-z0-9_]+")


def build_status(
    model: Model,
    weights: WeightsStage,
    serving: ServingStage,
    config: PlanConfig,
    now: datetime,
    drift: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Build the status of a model with a valid spec; `drift` is reason and message of the condition Drifted."""
    pods, wanted = [pod for pod in serving.fleet.pods if not pod.meta.deleting], serving.fleet.wanted
    ready_all = sum(1 for pod in pods if pod.ready)
    summary = _steady(model, summarize_ready(model, weights, serving, ready_all))
    status = {
        "action": next_step(model.name, summary.reason, summary.step),
        "observedGeneration": model.generation,
        "phase": str(summary.phase),
        "reason": _reason(summary.reason),
        "ready": f"{ready_all}/{wanted}",
        "gpus": wanted * spec_of(model).serving.num_gpus,
        "replicas": len(pods),
        "readyReplicas": ready_all,
        "selector": _selector(model),
        "endpoint": f"http://{model.name}.{model.namespace}.svc:{c.SERVICE_PORT}",
        "conditions": _merged_conditions(model, [*_conditions(weights, summary, ready_all), *_drifted(drift)], now),
        "active": _active(model, serving, ready_all, now),
        "formerUIDs": _former_uids(model, serving),
        "history": with_outcomes(model.status.get("history") or (), serving, now) or None,
        "target": _target(model, weights, serving, now),
        "imageOutdated": _image_outdated(model, serving, config),
        "merge": merge_progress(model.status.get("merge"), weights),
        "lastFailure": _last_failure(weights, serving) or model.status.get("lastFailure"),
    }
    return _harmless({key: value for key, value in status.items() if value is not None})


def _harmless(status: Mapping[str, Any]) -> dict[str, Any]:
    """Remove control characters from the texts of containers, kubelets and hubs: terminals show a status."""
    return {key: _shown(item) for key, item in status.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return _harmless(value)
    return [_shown(item) for item in value] if isinstance(value, list) else value


def _selector(model: Model) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(pod_selector(model).items()))


def _conditions(weights: WeightsStage, summary: ReadySummary, ready_all: int) -> Sequence[Condition]:
    reason = _reason(summary.reason)
    at_rest = Reason.COMPLETE if summary.ready else Reason.IDLE
    return [
        Condition(ConditionType.READY, summary.ready, reason, summary.message),
        Condition(
            ConditionType.WEIGHTS_READY, weights.artifact_id is not None, _reason(weights.reason), weights.message
        ),
        _available(ready_all),
        # Ready has the message already. Stalled repeats it, since kstatus reads only that.
        _while(ConditionType.PROGRESSING, summary.progressing, replace(summary, message=""), otherwise=at_rest),
        _while(ConditionType.STALLED, summary.stalled, summary, otherwise=Reason.IDLE),
    ]


def _drifted(drift: Mapping[str, str] | None) -> Sequence[Condition]:
    """Return the condition Drifted, which exists only while something has drifted."""
    return [] if drift is None else [Condition(ConditionType.DRIFTED, True, drift["reason"], drift["message"])]


def _while(kind: ConditionType, holds: bool, summary: ReadySummary, *, otherwise: Reason) -> Condition:
    """Return a condition that has the summary's reason and message only while it is True."""
    if holds:
        return Condition(kind, True, _reason(summary.reason), summary.message)
    return Condition(kind, False, otherwise, "")


def _merged_conditions(model: Model, conditions: Sequence[Condition], now: datetime) -> list[dict[str, Any]]:
    before = model.status.get("conditions") or ()
    return merge_conditions(conditions, before, generation=model.generation, now=now)


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
        "conditions": _merged_conditions(model, conditions, now),
    }
    return _harmless(changed)


def _steady(model: Model, summary: ReadySummary) -> ReadySummary:
    """Keep the registry's message while the kubelet only reports that it backs off."""
    before = find_condition(model.status, ConditionType.READY)
    if "Back-off pulling image" in summary.message and before.get("reason") == summary.reason:
        return replace(summary, message=str(before.get("message")))
    return summary


def _available(ready_all: int) -> Condition:
    if ready_all:
        return Condition(ConditionType.AVAILABLE, True, Reason.READY, f"{ready_all} pods are ready")
    return Condition(ConditionType.AVAILABLE, False, Reason.NO_READY_PODS, "no pod is ready")


def _former_uids(model: Model, serving: ServingStage) -> list[str] | None:
    """Return the model uids that pods of adopted Deployments carry: a gateway signs for them too."""
    former = uids_on_pods(model.uid, serving.fleet.live) - {model.uid, ""}
    return sorted(uid[:_MOST_OF_A_UID] for uid in former)[:_MOST_FORMER_UIDS] or None


def _active(model: Model, serving: ServingStage, ready_all: int, now: datetime) -> dict[str, Any] | None:
    """Describe the revision that serves; None before the first has had a ready pod."""
    item, before = serving.active, model.status.get("active") or {}
    if item is None or not (ready_all or before):
        return None
    since = before.get("since") if before.get("revision") == item.revision else None
    return {
        "revision": item.revision,
        "artifactID": item.artifact_id,
        "image": item.image,
        "since": since or format_time(now),
    }


def _target(model: Model, weights: WeightsStage, serving: ServingStage, now: datetime) -> Mapping[str, Any] | None:
    """Describe the revision that should serve; until the weights are known it stays the former one."""
    if serving.target is None:
        return model.status.get("target") or None
    since = serving.rollout_since(now)
    started = {"since": format_time(since)} if since is not None else {}
    return {"revision": serving.target, "artifactID": weights.artifact_id, **started}


def _image_outdated(model: Model, serving: ServingStage, config: PlanConfig) -> bool | None:
    """Tell whether the chart has other default images by now; None while no revision is known."""
    return None if serving.target is None else serving.images != config.images(spec_of(model).serving)


def _last_failure(weights: WeightsStage, serving: ServingStage) -> dict[str, Any] | None:
    """Return the failure this pass knows of, as the status has it."""
    if weights.failure is not None:
        failure: Mapping[str, Any] = failure_report(weights.failure)
    elif serving.rollout.failure is not None:
        failure = serving.rollout.failure
    elif serving.diagnosis is not None and serving.diagnosis.failure is not None:
        failure = failure_report(serving.diagnosis.failure)
    else:
        return None
    members = ("message", "exitCode", "pod", "time", "log")
    return {"reason": _reason(str(failure["reason"])), **{key: failure[key] for key in members if key in failure}}


def _reason(text: str) -> str:
    """Return a container's reason in the form that metav1.Condition demands."""
    word = _NOT_A_REASON.sub("", str(text))[:128]
    return word if word[:1].isalpha() else f"Other{word}"
