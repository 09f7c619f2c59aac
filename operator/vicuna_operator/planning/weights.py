"""The weights stage: the claim, then the merge, then the artifact's ID."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from vicuna_contract import names as c
from vicuna_contract.heads import Heads
from vicuna_contract.templates import AUTO
from vicuna_contract.termination import Report, read_report
from vicuna_operator.api.conditions import Reason
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, Create, NewEvent, Patch, Ref
from vicuna_operator.planning.attempts import Attempts, delete_job
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.diagnosis import POLL_SECONDS
from vicuna_operator.planning.dry_run import with_dry_run
from vicuna_operator.planning.job_outcome import END_NOW, pods_by_job, running_sidecars, with_merge_outcome
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.observed import ClaimView, Observed
from vicuna_operator.planning.pods import PodView
from vicuna_operator.planning.storage import claim_step
from vicuna_operator.planning.verification import (
    VerificationRequest,
    claim_annotations,
    find_verification_request,
    is_on_former_claim,
)
from vicuna_operator.planning.weights_stage import WeightsStage
from vicuna_operator.resources.common import claim_name, spec_of
from vicuna_operator.resources.identity import merge_key, merge_series

__all__ = ["plan_weights"]


@dataclass(frozen=True)
class _KnownArtifact:
    """An existing artifact, with its chat template and warnings, and what is still to be recorded and reported.

    `digest` is of its files and `heads` of its model, None where no merge reported them; `verification` is the key of
    the last one, if any.
    """

    artifact_id: str
    chat_template: str | None = None
    digest: str | None = None
    verification: str = ""
    heads: Heads | None = None
    warnings: Sequence[tuple[str, str]] = ()
    actions: Sequence[Action] = ()
    new_events: Sequence[NewEvent] = ()


def plan_weights(model: Model, seen: Observed, config: PlanConfig, now: datetime) -> WeightsStage:
    """Decide the next step towards the artifact."""
    key, claim = merge_key(spec_of(model)), seen.claims.get(claim_name(model))
    shared_volume = _is_shared(model, claim)
    prepared, blocked = claim_step(model, claim)
    mine = sorted((job for job in seen.merges if job.meta.is_child_of(model.uid)), key=lambda job: job.attempt)
    pods = pods_by_job(mine, seen.pods)
    jobs = [with_merge_outcome(job, pods.get(job.meta.name)) for job in mine if job.merge_key == key]

    known = _known_artifact(model, jobs, pods, seen)
    request = (
        find_verification_request(model, known.artifact_id, claim, jobs, seen)
        if known is not None
        else VerificationRequest()
    )
    if known is not None and (request.settled or spec_of(model).suspend):
        stage = replace(_merged(known, jobs), unresolved=_unresolved(known, request))
    elif (blocked_stage := _blocked(model, jobs, blocked)) is not None:
        stage = blocked_stage
    else:
        series = _series(model, request.key)
        attempts = Attempts(model, seen, config, now, jobs, pods, series, shared_volume, request.key)
        next_step = _verifying(attempts.next(), known, request)
        next_step, prepared = replace(next_step, actions=[*prepared, *next_step.actions]), []
        stage = with_dry_run(next_step, model, seen, config, shared_volume=shared_volume, job=attempts.job)
    cleared = [*_superseded(mine, key), *_let_go(jobs, claim)]
    return replace(stage, actions=[*prepared, *cleared, *stage.actions], shared_volume=shared_volume)


def _let_go(jobs: Sequence[JobView], claim: ClaimView | None) -> Sequence[Action]:
    """Delete ended Jobs that still hold a claim that is being deleted: Kubernetes waits for their pods too."""
    if claim is None or not claim.meta.deleting:
        return []
    return [delete_job(job) for job in jobs if job.claim == claim.meta.name and (job.succeeded or job.failed)]


def _blocked(model: Model, jobs: Sequence[JobView], blocked: tuple[str, str] | None) -> WeightsStage | None:
    """Report what keeps a merge from starting: its claim, or spec.suspend."""
    if blocked is not None:
        return WeightsStage(None, *blocked, requeue_after=POLL_SECONDS)
    return _suspended(jobs) if spec_of(model).suspend else None


def _verifying(stage: WeightsStage, known: _KnownArtifact | None, request: VerificationRequest) -> WeightsStage:
    """Add to the stage that an existing artifact is being verified, and why."""
    if known is None:
        return stage
    cause = f"a server reports {request.failure.reason}" if request.failure is not None else "as requested"
    why = f"every byte of artifact {known.artifact_id} is verified, and what is damaged is merged again ({cause})"
    begins = [NewEvent("Warning" if request.failure else "Normal", "ArtifactDoubted", why)]
    begun = any(isinstance(action, Create) for action in stage.actions)
    new_events = [*stage.new_events, *(begins if begun else [])]
    return replace(stage, message=f"{why}; {stage.message}", verification=request.key, new_events=new_events)


def _unresolved(known: _KnownArtifact, request: VerificationRequest) -> str:
    if request.unresolved is None or request.failure is None:
        return ""
    return (
        f"Job {request.unresolved.meta.name} has verified every byte of artifact {known.artifact_id}, and pod"
        f" {request.failure.pod} still reports {request.failure.reason}: {request.failure.message}; check the volume"
        f" and what mounts it, then run `kubectl vicuna retry`"
    )


def _superseded(jobs: Sequence[JobView], key: str) -> Sequence[Action]:
    """Delete the Jobs of other weights than the present ones; artifacts stay."""
    return [delete_job(job) for job in jobs if job.merge_key != key]


def _merged(known: _KnownArtifact, jobs: Sequence[JobView]) -> WeightsStage:
    """Delete the attempts that failed before one succeeded."""
    failed = [delete_job(job) for job in jobs if job.failed]
    odd = "".join(f"; {reason}: {message}" for reason, message in known.warnings)
    told = f"artifact {known.artifact_id}{odd}"
    actions = [*known.actions, *failed]
    return WeightsStage(
        known.artifact_id,
        Reason.MERGED,
        told,
        known.chat_template,
        known.digest,
        known.heads,
        verification=known.verification,
        actions=actions,
        new_events=known.new_events,
    )


def _suspended(jobs: Sequence[JobView]) -> WeightsStage:
    """Delete unfinished Jobs; failed ones stay for their diagnosis."""
    running = [delete_job(job) for job in jobs if not (job.failed or job.succeeded)]
    return WeightsStage(None, Reason.SUSPENDED, "suspended before the merge was done", actions=running)


def _series(model: Model, verification: str) -> str:
    words = [model.annotations.get(c.ANNOTATION_RETRY, ""), *([verification] if verification else [])]
    return merge_series(spec_of(model), claim=claim_name(model), retry=" ".join(words))


def _is_shared(model: Model, claim: ClaimView | None) -> bool:
    modes = claim.access_modes if claim is not None else (spec_of(model).storage.access_mode,)
    return "ReadWriteMany" in modes or "ReadOnlyMany" in modes


def _known_artifact(
    model: Model, jobs: Sequence[JobView], pods: Mapping[str, PodView], seen: Observed
) -> _KnownArtifact | None:
    """Find the artifact of the present merge key on the present claim: by a Job, its pod, or a Deployment.

    Artifacts on an earlier claim of that name do not count: a merge finds out whether they were restored onto this one.
    """
    here = claim_name(model)
    claim = seen.claims.get(here)
    for job in reversed(jobs):
        if job.succeeded and job.claim == here and not is_on_former_claim(job.meta, claim):
            known = _from_annotations(job, claim) or _from_report(job, pods.get(job.meta.name), claim)
            if known is not None:
                return known
    return _from_deployment(model, seen, claim)


def _from_annotations(job: JobView, claim: ClaimView | None) -> _KnownArtifact | None:
    """Return the artifact that a Job's annotations record; a Job of an earlier version records its claim now."""
    if not job.artifact_id:
        return None
    recorded = claim_annotations(job.meta, claim)
    change = {"metadata": {"annotations": recorded}}
    actions = [Patch(Ref("batch/v1", "Job", job.meta.name), job.meta.uid, change)] if recorded else []
    return _KnownArtifact(
        job.artifact_id,
        job.chat_template,
        job.artifact_digest,
        job.meta.verification,
        job.meta.heads,
        job.warnings,
        actions,
    )


def _from_deployment(model: Model, seen: Observed, claim: ClaimView | None) -> _KnownArtifact | None:
    """Find the artifact by a Deployment that serves it, the youngest first."""
    key, here = merge_key(spec_of(model)), claim_name(model)
    own = [item for item in seen.deployments if item.meta.is_child_of(model.uid) and item.artifact_id]
    there = [item for item in own if not is_on_former_claim(item.meta, claim)]
    fit = [item for item in there if item.merge_key == key and item.claim == here]
    fit.sort(key=lambda item: (item.meta.created is not None, item.meta.created), reverse=True)
    known = (
        _KnownArtifact(
            item.artifact_id, item.chat_template, item.artifact_digest, item.meta.verification, item.meta.heads
        )
        for item in fit
    )
    return next(known, None)


def _from_report(job: JobView, pod: PodView | None, claim: ClaimView | None) -> _KnownArtifact | None:
    """Read the artifact from the termination message of a Job's pod, and record it on the Job: pods go first."""
    report = read_report(pod.terminated.message) if pod is not None and pod.terminated is not None else None
    if report is None or report.artifact_id is None:
        return None
    resolved = report.chat_template if job.asked_template == AUTO else None
    metadata: dict[str, Any] = {"labels": {c.LABEL_ARTIFACT_ID: report.artifact_id}}
    annotations = _annotations(report, resolved) | claim_annotations(job.meta, claim)
    metadata |= {"annotations": annotations} if annotations else {}
    change: dict[str, Any] = {"metadata": metadata} | ({"spec": END_NOW} if running_sidecars(pod) else {})
    patch = Patch(Ref("batch/v1", "Job", job.meta.name), job.meta.uid, change)
    new_events = [NewEvent("Warning", reason, message) for reason, message in report.warnings]
    return _KnownArtifact(
        report.artifact_id,
        resolved,
        report.digest,
        job.meta.verification,
        report.heads,
        report.warnings,
        [patch],
        new_events,
    )


def _annotations(report: Report, resolved: str | None) -> dict[str, str]:
    """Return what a Job records of its merge's termination message."""
    notable = {
        c.ANNOTATION_ARTIFACT_BYTES: str(report.bytes or ""),
        c.ANNOTATION_ARTIFACT_DIGEST: report.digest,
        c.ANNOTATION_ATTENTION_HEADS: report.heads.noted if report.heads is not None else "",
        c.ANNOTATION_WARNINGS: json.dumps(report.warnings) if report.warnings else "",
        c.ANNOTATION_CHAT_TEMPLATE: resolved,
    }
    return {key: value for key, value in notable.items() if value}
