"""The status object of a VicunaModel: what was observed, said once for machines and once for people."""

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
    """Say where a model with a valid spec stands; `drift` is reason and message of what is not as the spec says."""
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
    """Take the control characters out of whatever containers, kubelets and hubs have said: terminals show a status."""
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
        # Ready says why; once is enough on a screen. Stalled says it again, since kstatus reads only that.
        _while(ConditionType.PROGRESSING, summary.progressing, replace(summary, message=""), otherwise=at_rest),
        _while(ConditionType.STALLED, summary.stalled, summary, otherwise=Reason.IDLE),
    ]


def _drifted(drift: Mapping[str, str] | None) -> Sequence[Condition]:
    """Make the condition that is there only while there is something to tell."""
    return [] if drift is None else [Condition(ConditionType.DRIFTED, True, drift["reason"], drift["message"])]


def _while(kind: ConditionType, holds: bool, summary: ReadySummary, *, otherwise: Reason) -> Condition:
    """Make a condition that has the verdict's reason and message only while it holds."""
    if holds:
        return Condition(kind, True, _reason(summary.reason), summary.message)
    return Condition(kind, False, otherwise, "")


def _merged_conditions(model: Model, conditions: Sequence[Condition], now: datetime) -> list[dict[str, Any]]:
    before = model.status.get("conditions") or ()
    return merge_conditions(conditions, before, generation=model.generation, now=now)


def invalid(model: Model, now: datetime) -> dict[str, Any]:
    """Say that the spec cannot be followed; what runs goes on running and is still counted."""
    error = model.spec_error
    message = f"{error}; what was running before goes on" if model.status.get("active") else str(error)
    return _stopped(model, Reason.INVALID_SPEC, message, now)


def disallowed(model: Model, refused: Sequence[str], now: datetime) -> dict[str, Any]:
    """Say that the operator's settings do not let a model name what it names; what runs goes on."""
    step = "name another, or ask who runs the operator (the chart's value `allowed`)"
    return _stopped(model, Reason.NOT_ALLOWED, f"{'; '.join(refused)}: {step}", now)


def conflicting(model: Model, names: Sequence[str], now: datetime) -> dict[str, Any]:
    """Say that another object holds a name this model needs."""
    message = (
        f"{', '.join(sorted(names))} exists and belongs to something else; delete or rename it, or rename this model"
    )
    return _stopped(model, Reason.NAME_CONFLICT, message, now)


def refused(model: Model, action: str, message: str, now: datetime) -> dict[str, Any]:
    """Say that the API server refused an action for good: a quota, an admission webhook, missing rights."""
    step = "grant the operator the chart's roles, or correct what the message names"
    return _refused_by_server(model, f"{action}: {message}", Reason.API_REFUSED, step, now)


def unfit(model: Model, action: str, message: str, now: datetime) -> dict[str, Any]:
    """Say that the API server finds an object wrong in itself, which the spec made so."""
    return _refused_by_server(
        model, f"{action}: {message}", Reason.INVALID_SPEC, "correct the field that it names", now
    )


def _refused_by_server(model: Model, answer: str, reason: Reason, step: str, now: datetime) -> dict[str, Any]:
    """Say that the API server does not do something; whoever says so in its place comes first."""
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
    """Keep what the registry said while the kubelet only says that it waits before asking again."""
    before = find_condition(model.status, ConditionType.READY)
    if "Back-off pulling image" in summary.message and before.get("reason") == summary.reason:
        return replace(summary, message=str(before.get("message")))
    return summary


def _available(ready_all: int) -> Condition:
    if ready_all:
        return Condition(ConditionType.AVAILABLE, True, Reason.READY, f"{ready_all} pods are ready")
    return Condition(ConditionType.AVAILABLE, False, Reason.NO_READY_PODS, "no pod is ready")


def _former_uids(model: Model, serving: ServingStage) -> list[str] | None:
    """Return the uids that pods of adopted Deployments were made for: a gateway signs for them too."""
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
    """Describe the revision that should serve; until the weights are known it is the one of before."""
    if serving.target is None:
        return model.status.get("target") or None
    since = serving.rollout_since(now)
    started = {"since": format_time(since)} if since is not None else {}
    return {"revision": serving.target, "artifactID": weights.artifact_id, **started}


def _image_outdated(model: Model, serving: ServingStage, config: PlanConfig) -> bool | None:
    """Tell whether the chart has another default image by now; None while no revision is known."""
    if serving.target is None:
        return None
    return spec_of(model).serving.image is None and serving.image != config.server_image


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
    """Make a container's word fit metav1.Condition's pattern."""
    word = _NOT_A_REASON.sub("", str(text))[:128]
    return word if word[:1].isalpha() else f"Other{word}"
