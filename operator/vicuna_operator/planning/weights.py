"""The weights stage: the claim, then the merge, and in the end the artifact's ID."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from vicuna_operator.api import constants as c
from vicuna_operator.api.conditions import Reason
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, Patch, Ref
from vicuna_operator.planning.attempts import Attempts, WeightsStage, delete_job
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.failures import report, size_told
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.observed import ClaimView, Observed, PodView
from vicuna_operator.planning.storage import claim_step
from vicuna_operator.planning.trouble import POLL_SECONDS
from vicuna_operator.resources.common import claim_name, spec_of
from vicuna_operator.resources.identity import merge_key, merge_series

__all__ = ["plan_weights"]


def plan_weights(model: Model, seen: Observed, config: PlanConfig, now: datetime) -> WeightsStage:
    """Decide the next step towards the artifact."""
    spec, key = spec_of(model), merge_key(spec_of(model))
    claim = seen.claims.get(claim_name(model))
    actions, blocked = claim_step(model, claim)
    mine = [job for job in seen.merges if job.meta.owner_uid == model.uid and not job.meta.deleting]
    jobs = sorted((job for job in mine if job.merge_key == key), key=lambda job: job.attempt)
    # New weights supersede whatever was merged for the old ones; the artifacts themselves stay.
    actions += [delete_job(job) for job in mine if job.merge_key != key]
    pods = {pod.job_name: pod for pod in seen.pods if not pod.is_server}

    artifact, noted = _known_artifact(model, jobs, pods, seen)
    if artifact is not None:
        actions += [*noted, *(delete_job(job) for job in jobs if job.failed)]
        stage = WeightsStage(artifact, Reason.MERGED, f"artifact {artifact}")
    elif blocked is not None:
        stage = WeightsStage(None, *blocked, requeue_after=POLL_SECONDS)
    elif spec.suspend:
        actions += [delete_job(job) for job in jobs if not (job.failed or job.succeeded)]
        stage = WeightsStage(None, Reason.SUSPENDED, "suspended before the merge was done")
    else:
        series = merge_series(
            spec,
            claim=claim_name(model),
            retry=model.annotations.get(c.ANNOTATION_RETRY, ""),
        )
        stage = Attempts(model, seen, config, now, jobs, pods, series, _is_shared(model, claim)).next()
    return replace(stage, actions=[*actions, *stage.actions], shared_volume=_is_shared(model, claim))


def _is_shared(model: Model, claim: ClaimView | None) -> bool:
    modes = claim.access_modes if claim is not None else (spec_of(model).storage.access_mode,)
    return "ReadWriteMany" in modes or "ReadOnlyMany" in modes


def _known_artifact(
    model: Model, jobs: Sequence[JobView], pods: Mapping[str, PodView], seen: Observed
) -> tuple[str | None, Sequence[Action]]:
    """Find the artifact of the present merge key on the present claim: by a Job, its pod, or a Deployment."""
    here = claim_name(model)
    for job in reversed(jobs):
        if not job.succeeded or job.claim != here:
            continue
        if job.artifact_id:
            return job.artifact_id, ()
        pod = pods.get(job.meta.name)
        said = report(pod.terminated.message) if pod is not None and pod.terminated is not None else None
        if said is not None and isinstance(said.get("artifactID"), str):
            body: dict[str, Any] = {"metadata": {"labels": {c.LABEL_ARTIFACT_ID: said["artifactID"]}}}
            if size := size_told(said):
                body["metadata"]["annotations"] = {c.ANNOTATION_ARTIFACT_BYTES: str(size)}
            return said["artifactID"], [Patch(Ref("batch/v1", "Job", job.meta.name), job.meta.uid, body)]
    key = merge_key(spec_of(model))
    for deployment in seen.deployments:
        fits = deployment.merge_key == key and deployment.claim == here and deployment.artifact_id
        if fits and deployment.meta.owner_uid == model.uid and not deployment.meta.deleting:
            return deployment.artifact_id, ()
    return None, ()
