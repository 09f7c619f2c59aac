"""Orphans of a model: children without their owner, after a restore from a backup or an orphaning deletion.

A Deployment is adopted if the hash it carries says that its pod template is the operator's own; its pods go on running.
A Job is never adopted: it is removed, and the new one finds the artifact in seconds. Service, PodDisruptionBudget and
NetworkPolicy are adopted where they are as stated (`managed_objects`).
"""

from collections.abc import Sequence

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, NewEvent, Patch, Ref
from vicuna_operator.planning.allowed import may_be_adopted
from vicuna_operator.planning.attempts import delete_job
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.observed import Observed
from vicuna_operator.resources.common import claim_name, owner

__all__ = ["adopt", "adopted_as", "unadopted_orphans"]


def adopt(model: Model, seen: Observed, config: PlanConfig) -> tuple[Sequence[Action], Sequence[NewEvent]]:
    """Adopt the Deployments that are certainly this model's, and remove Jobs without an owner."""
    lost = [job for job in seen.jobs if job.meta.is_orphan_of(model.name, model.uid)]
    actions: list[Action] = [delete_job(job) for job in lost if _was_ours(model, job)]
    new_events = []
    for item in seen.deployments:
        if item.meta.is_orphan_of(model.name, model.uid) and _is_adoptable(model, item, config):
            ref = Ref("apps/v1", "Deployment", item.meta.name)
            actions.append(Patch(ref, item.meta.uid, {"metadata": adopted_as(model)}))
            new_events.append(
                NewEvent("Normal", "Adopted", f"Deployment {item.meta.name} had no owner any more and goes on")
            )
    return actions, new_events


def adopted_as(model: Model) -> dict[str, object]:
    """Return the metadata that makes an object a child of this model."""
    return {"ownerReferences": [owner(model)], "labels": {c.LABEL_MODEL_UID: model.uid}}


def unadopted_orphans(model: Model, seen: Observed, config: PlanConfig) -> Sequence[DeploymentView]:
    """Return orphaned Deployments that are not adopted. The model's Service still routes to their pods."""
    lost = [item for item in seen.deployments if item.meta.is_orphan_of(model.name, model.uid)]
    return [item for item in lost if not _is_adoptable(model, item, config)]


def _is_adoptable(model: Model, item: DeploymentView, config: PlanConfig) -> bool:
    return _is_as_made(model, item) and may_be_adopted(item, config.allowed, config.default_images)


def _was_ours(model: Model, job: JobView) -> bool:
    """Tell whether an operator made this Job; others may carry the model's label too."""
    kinds = (("merge", c.ANNOTATION_ATTEMPT), ("prune", c.ANNOTATION_KEPT))
    return any(
        job.meta.name.startswith(f"{model.name}-{kind}-") and mark in job.meta.annotations for kind, mark in kinds
    )


def _is_as_made(model: Model, item: DeploymentView) -> bool:
    named = item.meta.name == c.deployment(model.name, item.revision)
    recorded = bool(item.made_with and item.artifact_id) and item.claim == claim_name(model)
    return named and recorded and not item.altered
