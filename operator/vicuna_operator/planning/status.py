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
    Reason,
    find_condition,
    format_time,
    merge_conditions,
)
from vicuna_operator.api.model import Model
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.deployments import uids_on_pods
from vicuna_operator.planning.failures import failure_report
from vicuna_operator.planning.history import with_outcomes
from vicuna_operator.planning.lenient import OBJECT
from vicuna_operator.planning.merge_progress import merge_progress
from vicuna_operator.planning.next_step import next_step
from vicuna_operator.planning.ready_summary import ReadySummary, summarize_ready
from vicuna_operator.planning.scale import scale_status
from vicuna_operator.planning.serving_stage import ServingStage
from vicuna_operator.planning.weights_stage import WeightsStage
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.service import pod_selector

__all__ = ["build_status", "harmless", "merged_conditions"]

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
        "conditions": merged_conditions(
            model, [*_conditions(weights, summary, _available(serving, ready_all)), *_drifted(drift)], now
        ),
        "autoscaling": _autoscaling(model, serving),
        "active": _active(model, serving, ready_all, now),
        "formerUIDs": _former_uids(model, serving),
        "history": with_outcomes(model.status.get("history") or (), serving, now) or None,
        "target": _target(model, weights, serving, now),
        "imageOutdated": _image_outdated(model, serving, config),
        "merge": merge_progress(model.status.get("merge"), weights),
        "lastFailure": _last_failure(weights, serving) or model.status.get("lastFailure"),
    }
    return harmless({key: value for key, value in status.items() if value is not None})


def harmless(status: Mapping[str, Any]) -> dict[str, Any]:
    """Remove control characters from the texts of containers, kubelets and hubs: terminals show a status."""
    return {key: _shown(item) for key, item in status.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, OBJECT):
        return harmless(value)
    return [_shown(item) for item in value] if isinstance(value, list) else value


def _selector(model: Model) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(pod_selector(model).items()))


def _autoscaling(model: Model, serving: ServingStage) -> Mapping[str, Any] | None:
    return None if serving.scale is None else scale_status(model.status.get("autoscaling") or {}, serving.scale)


def _conditions(weights: WeightsStage, summary: ReadySummary, available: Condition) -> Sequence[Condition]:
    reason = _reason(summary.reason)
    at_rest = Reason.COMPLETE if summary.ready else Reason.IDLE
    return [
        Condition(ConditionType.READY, summary.ready, reason, summary.message),
        Condition(
            ConditionType.WEIGHTS_READY, weights.artifact_id is not None, _reason(weights.reason), weights.message
        ),
        available,
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


def merged_conditions(model: Model, conditions: Sequence[Condition], now: datetime) -> list[dict[str, Any]]:
    """Return the conditions with the time of each one's last transition."""
    before = model.status.get("conditions") or ()
    return merge_conditions(conditions, before, generation=model.generation, now=now)


def _steady(model: Model, summary: ReadySummary) -> ReadySummary:
    """Keep the registry's message while the kubelet only reports that it backs off."""
    before = find_condition(model.status, ConditionType.READY)
    if "Back-off pulling image" in summary.message and before.get("reason") == summary.reason:
        return replace(summary, message=str(before.get("message")))
    return summary


def _available(serving: ServingStage, ready_all: int) -> Condition:
    if ready_all:
        return Condition(ConditionType.AVAILABLE, True, Reason.READY, f"{ready_all} pods are ready")
    if serving.is_asleep and (serving.target or serving.active) and not serving.fault:
        return Condition(ConditionType.AVAILABLE, True, Reason.ASLEEP, "a request through a gateway is answered")
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
        **item.images,
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
    """Tell whether the chart has other default images of either container by now; None while no revision is known."""
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
