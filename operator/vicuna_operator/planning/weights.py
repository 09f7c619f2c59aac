"""The weights stage: the claim, then the merge, and in the end the artifact's ID."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from vicuna_contract import names as c
from vicuna_contract.termination import read_report
from vicuna_operator.api.conditions import Reason
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, Patch, Ref
from vicuna_operator.planning.attempts import Attempts, WeightsStage, delete_job
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.observed import ClaimView, Observed, PodView
from vicuna_operator.planning.storage import claim_step
from vicuna_operator.planning.trouble import POLL_SECONDS
from vicuna_operator.resources.common import claim_name, spec_of
from vicuna_operator.resources.identity import merge_key, merge_series

__all__ = ["plan_weights"]


def plan_weights(model: Model, seen: Observed, config: PlanConfig, now: datetime) -> WeightsStage:
    """Decide the next step towards the artifact."""
    key, claim = merge_key(spec_of(model)), seen.claims.get(claim_name(model))
    shared_volume = _is_shared(model, claim)
    prepared, blocked = claim_step(model, claim)
    mine = sorted((job for job in seen.merges if job.meta.is_child_of(model.uid)), key=lambda job: job.attempt)
    jobs = [job for job in mine if job.merge_key == key]
    pods = {pod.job_name: pod for pod in seen.pods if not pod.is_server}

    artifact, noted = _known_artifact(model, jobs, pods, seen)
    if artifact is not None:
        stage = _merged(artifact, noted, jobs)
    elif blocked is not None:
        stage = WeightsStage(None, *blocked, requeue_after=POLL_SECONDS)
    elif spec_of(model).suspend:
        stage = _suspended(jobs)
    else:
        stage = Attempts(model, seen, config, now, jobs, pods, _series(model), shared_volume).next()
    return replace(stage, actions=[*prepared, *_superseded(mine, key), *stage.actions], shared_volume=shared_volume)


def _superseded(jobs: Sequence[JobView], key: str) -> Sequence[Action]:
    """Stop what was merged for other weights than the present ones; artifacts stay."""
    return [delete_job(job) for job in jobs if job.merge_key != key]


def _merged(artifact: str, noted: Sequence[Action], jobs: Sequence[JobView]) -> WeightsStage:
    """Clear away the attempts that failed before one succeeded."""
    failed = [delete_job(job) for job in jobs if job.failed]
    return WeightsStage(artifact, Reason.MERGED, f"artifact {artifact}", actions=[*noted, *failed])


def _suspended(jobs: Sequence[JobView]) -> WeightsStage:
    """Stop what runs; what has failed stays for its diagnosis."""
    running = [delete_job(job) for job in jobs if not (job.failed or job.succeeded)]
    return WeightsStage(None, Reason.SUSPENDED, "suspended before the merge was done", actions=running)


def _series(model: Model) -> str:
    retry = model.annotations.get(c.ANNOTATION_RETRY, "")
    return merge_series(spec_of(model), claim=claim_name(model), retry=retry)


def _is_shared(model: Model, claim: ClaimView | None) -> bool:
    modes = claim.access_modes if claim is not None else (spec_of(model).storage.access_mode,)
    return "ReadWriteMany" in modes or "ReadOnlyMany" in modes


def _known_artifact(
    model: Model, jobs: Sequence[JobView], pods: Mapping[str, PodView], seen: Observed
) -> tuple[str | None, Sequence[Action]]:
    """Find the artifact of the present merge key on the present claim: by a Job, its pod, or a Deployment."""
    here = claim_name(model)
    for job in reversed(jobs):
        if job.succeeded and job.claim == here:
            artifact, noted = (job.artifact_id, ()) if job.artifact_id else _told(job, pods.get(job.meta.name))
            if artifact is not None:
                return artifact, noted
    return _served(model, seen), ()


def _served(model: Model, seen: Observed) -> str | None:
    """Find the artifact by a Deployment that serves it."""
    key, here = merge_key(spec_of(model)), claim_name(model)
    own = [item for item in seen.deployments if item.meta.is_child_of(model.uid) and item.artifact_id]
    return next((item.artifact_id for item in own if item.merge_key == key and item.claim == here), None)


def _told(job: JobView, pod: PodView | None) -> tuple[str | None, Sequence[Action]]:
    """Read the artifact from the message of a Job's pod, and note it on the Job, which outlives the pod."""
    said = read_report(pod.terminated.message) if pod is not None and pod.terminated is not None else None
    if said is None or said.artifact_id is None:
        return None, ()
    body: dict[str, Any] = {"metadata": {"labels": {c.LABEL_ARTIFACT_ID: said.artifact_id}}}
    if said.bytes is not None:
        body["metadata"]["annotations"] = {c.ANNOTATION_ARTIFACT_BYTES: str(said.bytes)}
    return said.artifact_id, [Patch(Ref("batch/v1", "Job", job.meta.name), job.meta.uid, body)]
