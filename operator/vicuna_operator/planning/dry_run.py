"""Whether the API server would accept the objects of a spec: asked before hours of merging, not after.

Job and Deployment are posted with `dryRun=All`, the Deployment with an invented artifact. Only a finding about the
objects themselves (422) stops the merge: any other answer says nothing about the spec.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.conditions import Reason
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import DryRun, NewEvent
from vicuna_operator.planning.blocking import is_admission
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.observed import DryRunResult, Observed
from vicuna_operator.planning.weights_stage import WeightsStage
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.deployment import revision_deployment
from vicuna_operator.resources.identity import revision

__all__ = ["shape", "with_dry_run"]

_ARTIFACT = "0" * 16  # stands for the one that the merge will name
_POD_SECURITY = "violate PodSecurity"


def with_dry_run(
    stage: WeightsStage,
    model: Model,
    seen: Observed,
    config: PlanConfig,
    *,
    shared_volume: bool,
    job: Callable[[], Mapping[str, Any]],
) -> WeightsStage:
    """Return a weights stage without an artifact, with what the API server answers about the spec's objects.

    `job` builds the Job of the next attempt.
    """
    key = _key(model, config)
    if seen.dry_run is None or seen.dry_run.key != key:
        return replace(stage, dry_run=DryRun(key, [_deployment(model, config, shared_volume), job()]))
    if seen.dry_run.refused:
        return _refused(stage, seen.dry_run)
    return _warned(stage, seen.dry_run)


def shape(body: Mapping[str, Any]) -> str:
    """Return what the API server can object to in one of these objects; models of one shape share the answer.

    Names, uid and hashes are left out: the operator makes them, and they are always valid. So are the arguments, which
    are free text to the API server.
    """
    metadata = body["metadata"]
    own = {value for key, value in metadata["labels"].items() if key.startswith(f"{c.GROUP}/")}
    own.add(metadata["annotations"][c.ANNOTATION_CLAIM])
    marked = {**metadata, "name": "", "ownerReferences": []}
    return json.dumps(_without({**body, "metadata": marked}, own, ""), sort_keys=True)


def _without(value: object, own: set[str], parent: str) -> object:
    if isinstance(value, list | tuple):
        return [_without(item, own, parent) for item in value]
    if not isinstance(value, Mapping):
        return "" if isinstance(value, str) and value in own else value
    return {key: _without(item, own, key) for key, item in value.items() if not _is_free(parent, key)}


def _is_free(parent: str, key: str) -> bool:
    """Tell whether a field's value is always valid: arguments, and our own labels and annotations."""
    return key == "args" or (parent in ("labels", "annotations") and key.startswith(f"{c.GROUP}/"))


def _key(model: Model, config: PlanConfig) -> str:
    """Return what one dry run is good for: a generation with an image, and each `kubectl vicuna retry` of it."""
    images = config.images(spec_of(model).serving)
    named = " ".join(filter(None, (images.server, images.engine)))
    return f"{model.generation} {named} {model.annotations.get(c.ANNOTATION_RETRY, '')}"


def _deployment(model: Model, config: PlanConfig, shared_volume: bool) -> Mapping[str, Any]:
    spec = spec_of(model)
    images = config.images(spec.serving)
    return revision_deployment(
        model,
        revision=revision(spec, artifact_id=_ARTIFACT, image=images.server, engine_image=images.engine),
        artifact_id=_ARTIFACT,
        image=images.server,
        engine_image=images.engine,
        pull_policy=spec.serving.image_pull_policy or "IfNotPresent",
        replicas=spec.serving.replicas,
        shared_volume=shared_volume,
        platform_user=config.platform_user,
        annotations={},
    )


def _refused(stage: WeightsStage, answer: DryRunResult) -> WeightsStage:
    """Stop before anything is created; a merge that runs already goes on."""
    refusal_text = "; ".join(answer.refused)
    if is_admission(refusal_text):
        reason, message = Reason.ADMISSION_REFUSED, f"{refusal_text}; correct what it objects to"
    else:
        reason, message = Reason.INVALID_SPEC, f"the API server would refuse the objects of this spec: {refusal_text}"
    step = "nothing was merged for it; correct the field that it names"
    return replace(
        stage, reason=reason, message=f"{message}; {step}", stalled=True, running=False, actions=(), new_events=()
    )


def _warned(stage: WeightsStage, answer: DryRunResult) -> WeightsStage:
    """Report a warning of Pod Security, which accepts Jobs and Deployments and later refuses their pods."""
    found = list(dict.fromkeys(text for text in answer.warnings if _POD_SECURITY in text))
    if not found:
        return stage
    step = "correct spec.serving.podSecurityContext, or ask the namespace's administrator"
    warning = f"the pods {'; '.join(found)}; {step}"
    new_events = [NewEvent("Warning", "PodSecurityWarning", warning)] if answer.is_new else []
    return replace(stage, message=f"{stage.message}; {warning}", new_events=[*new_events, *stage.new_events])
