"""Which artifacts on the model's own claim are unused, and the Job that removes them.

An annotation of the claim records which artifacts were put on it and when. Revisions, Jobs and the status may all be
gone by the time an artifact is not needed. A claim of the user's own is never pruned: others may use it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time, parse_time
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, Create, Delete, NewEvent, Patch, Ref
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.job_outcome import pods_by_job, with_outcome
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.lenient import moment, parsed
from vicuna_operator.planning.observed import ClaimView, Observed
from vicuna_operator.planning.quarantine import find_quarantined, mark_removed, removable
from vicuna_operator.planning.weights_stage import WeightsStage
from vicuna_operator.resources.common import claim_name, spec_of
from vicuna_operator.resources.prune_job import prune_job, prune_job_name

__all__ = ["PruningStage", "plan_pruning"]

# `artifacts prune` removes nothing younger than ten minutes; the rest allows for clocks that differ.
_MIN_AGE = timedelta(minutes=15)
_TRY_AGAIN = timedelta(hours=1)

PruningStage = tuple[Sequence[Action], Sequence[NewEvent], float | None]
_NOTHING: PruningStage = ((), (), None)


def plan_pruning(
    model: Model, weights: WeightsStage, seen: Observed, config: PlanConfig, now: datetime
) -> PruningStage:
    """Record new artifacts on the claim; start, follow and delete the Job that removes old ones."""
    claim = seen.claims.get(claim_name(model))
    if spec_of(model).storage.claim_name is not None or claim is None or claim.meta.deleting:
        return _NOTHING
    jobs = _clean_ups(model, seen)
    known = _known(claim)
    used = _used(model, weights, seen)
    if new := sorted(used - set(known)):
        return [_remember(claim, {**known, **dict.fromkeys(new, format_time(now))})], (), None
    merges = [job for job in seen.merges if job.claim == claim.meta.name and job.meta.is_child_of(model.uid)]
    if jobs:
        needed = None if weights.artifact_id is None else used | set(seen.neighbours)
        return _follow(claim, known, needed, jobs, merges, now)
    quarantined = removable(find_quarantined(merges), [*seen.pods, *seen.neighbour_pods])
    return _begin(model, weights, seen, config, known, used, quarantined, now)


def _clean_ups(model: Model, seen: Observed) -> Sequence[JobView]:
    mine = [job for job in seen.jobs if job.is_prune and job.meta.is_child_of(model.uid)]
    pods = pods_by_job(mine, seen.pods)
    return [with_outcome(job, pods.get(job.meta.name)) for job in mine]


def _begin(
    model: Model,
    weights: WeightsStage,
    seen: Observed,
    config: PlanConfig,
    known: Mapping[str, str],
    used: set[str],
    quarantined: Sequence[str],
    now: datetime,
) -> PruningStage:
    old = _old(known, used)
    # The artifact that a running merge will need is not known yet.
    if not (old or quarantined) or weights.artifact_id is None:
        return _NOTHING
    young = {item for item, due in old.items() if now < due}
    if young and not quarantined:
        return (), (), (max(old.values()) - now).total_seconds()
    keep = used | set(seen.neighbours) | young
    body = _job(model, keep, quarantined, config, shared_volume=weights.shared_volume)
    going = [*sorted(set(old) - young), *(f"the damaged copy of {item}" for item in quarantined)]
    message = f"Job {prune_job_name(model, keep)} removes {', '.join(going)} from {claim_name(model)}"
    return [Create(body)], [NewEvent("Normal", "PruneStarted", message)], None


def _old(known: Mapping[str, str], used: set[str]) -> dict[str, datetime]:
    """Return the unused artifacts, and from when on each may be removed."""
    return {item: parse_time(known[item]) + _MIN_AGE for item in known if item not in used}


def _job(
    model: Model, keep: set[str], quarantined: Sequence[str], config: PlanConfig, *, shared_volume: bool
) -> Mapping[str, Any]:
    serving = spec_of(model).serving
    return prune_job(
        model,
        keep=keep,
        quarantined=quarantined,
        image=serving.image or config.server_image,
        pull_policy=serving.image_pull_policy or config.server_image_pull_policy,
        shared_volume=shared_volume,
        platform_user=config.platform_user,
    )


def _follow(
    claim: ClaimView,
    known: Mapping[str, str],
    needed: set[str] | None,
    jobs: Sequence[JobView],
    merges: Sequence[JobView],
    now: datetime,
) -> PruningStage:
    """Delete a Job that is done, or that might remove what is needed; None: not known until the merge has ended."""
    actions: list[Action] = []
    new_events: list[NewEvent] = []
    wait = None
    for job in jobs:
        remove = Delete(Ref("batch/v1", "Job", job.meta.name), job.meta.uid)
        if job.succeeded:
            kept = {item: at for item, at in known.items() if item in job.kept}
            actions += [_remember(claim, kept), *mark_removed(merges, job.quarantined), remove]
        elif needed is None or not needed <= set(job.kept):
            actions.append(remove)
        elif job.failed:
            again = (job.finished or now) + _TRY_AGAIN
            actions += [remove] if now >= again else []
            wait = max(0.1, (again - now).total_seconds())
            message = (
                f"Job {job.meta.name} failed; old artifacts stay on {claim.meta.name}, and the operator tries again"
            )
            new_events.append(NewEvent("Warning", "PruneFailed", message))
    return actions, new_events, wait


def _used(model: Model, weights: WeightsStage, seen: Observed) -> set[str]:
    """Return the artifacts that a kept revision serves or may serve again, and the present weights."""
    mine = [item for item in seen.deployments if item.meta.owner_uid == model.uid and item.claim == claim_name(model)]
    found = {item.artifact_id for item in mine}
    return {item for item in (*found, weights.artifact_id) if item}


def _known(claim: ClaimView) -> dict[str, str]:
    value = parsed(claim.meta.annotations.get(c.ANNOTATION_ARTIFACTS))
    if not isinstance(value, dict):
        return {}  # malformed: the record starts anew
    return {str(item): format_time(put) for item, at in value.items() if (put := moment(at)) is not None}


def _remember(claim: ClaimView, known: Mapping[str, str]) -> Patch:
    text = json.dumps(known, sort_keys=True)
    body = {"metadata": {"annotations": {c.ANNOTATION_ARTIFACTS: text}}}
    return Patch(Ref("v1", "PersistentVolumeClaim", claim.meta.name), claim.meta.uid, body)
