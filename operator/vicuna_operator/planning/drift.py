"""Where the cluster stays other than the spec says: edits that cannot be followed, and changes by somebody else.

The condition `Drifted` says so, with the next step, until both agree again. It says nothing about readiness.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vicuna_contract import names as c
from vicuna_operator.api.conditions import Reason
from vicuna_operator.api.model import Model
from vicuna_operator.planning.adoption import unadopted_orphans
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.held import held_children
from vicuna_operator.planning.meta import Meta
from vicuna_operator.planning.observed import ClaimView, Observed
from vicuna_operator.planning.storage import unfollowed
from vicuna_operator.resources.common import claim_name, labels, spec_of

__all__ = ["Drift", "drift_condition", "find_drift"]

_MOST_NAMED = 3


@dataclass(frozen=True)
class Drift:
    """One difference, with the next step."""

    reason: Reason
    message: str


def find_drift(
    model: Model, seen: Observed, config: PlanConfig, live: Sequence[DeploymentView], contested: Sequence[str]
) -> list[Drift]:
    """Find what is not as the spec says; `contested` is what somebody rewrites as soon as it is put back."""
    claim = seen.claims.get(claim_name(model))
    drifts = [*_lost(model, claim, live)]
    drifts += [Drift(Reason.STORAGE_NOT_FOLLOWED, message) for message in unfollowed(model, claim)]
    drifts += [Drift(Reason.POD_TEMPLATE_CHANGED, _changed(item)) for item in live if item.altered]
    drifts += [Drift(Reason.ORPHANED, _stray(item)) for item in unadopted_orphans(model, seen, config)]
    drifts += [Drift(Reason.DELETION_HELD, message) for message in held_children(model, seen)]
    rewritten = [*contested, *seen.relabelled, *_rewritten(model, seen)]
    if rewritten:
        drifts.append(Drift(Reason.REWRITTEN, _by_policy(list(dict.fromkeys(rewritten)))))
    return drifts


def _lost(model: Model, claim: ClaimView | None, live: Sequence[DeploymentView]) -> Iterator[Drift]:
    """Report a claim that is deleted, or is being deleted, while pods mount it."""
    name = claim_name(model)
    if not any(item.claim == name for item in live):
        return  # nothing serves from it: the condition Ready says so
    kept = "running pods go on, and no new pod can start"
    if claim is not None and claim.meta.deleting:
        yield Drift(
            Reason.CLAIM_TERMINATING,
            f"PersistentVolumeClaim {name} is being deleted, which cannot be undone: {kept}; name another claim in"
            f" spec.storage.claimName, and the weights are merged onto it while these pods serve; or set spec.suspend"
            f" to true and then to false, and the claim is made and merged onto anew",
        )
    elif claim is None and spec_of(model).storage.claim_name is not None:
        yield Drift(
            Reason.CLAIM_NOT_FOUND,
            f"PersistentVolumeClaim {name} is gone: {kept}; create it in {model.namespace} again, and the weights are"
            f" merged onto it",
        )


def _changed(item: DeploymentView) -> str:
    return (
        f"the pod template of Deployment {item.meta.name} (revision {item.revision}) is not the one it was made with,"
        f" and is left as it is; change the spec of the VicunaModel instead, or run `kubectl delete deployment"
        f" {item.meta.name}`, and it is created again"
    )


def _stray(item: DeploymentView) -> str:
    return (
        f"Deployment {item.meta.name} has this model's label and no owner, and its pod template is not an operator's;"
        f" it is not adopted: run `kubectl delete deployment {item.meta.name}`, or remove its label {c.LABEL_MODEL}"
    )


def _by_policy(rewritten: Sequence[str]) -> str:
    more = f" and {len(rewritten) - _MOST_NAMED} more" if len(rewritten) > _MOST_NAMED else ""
    return (
        f"somebody rewrites what the operator wrote: {'; '.join(rewritten[:_MOST_NAMED])}{more}; let the admission"
        f" policy or controller that does it leave objects with the label {c.LABEL_MODEL} alone"
    )


def _rewritten(model: Model, seen: Observed) -> Iterator[str]:
    """Name the operator's labels that Jobs, Deployments and pods have lost."""
    for kind, meta, name in _children(model, seen):
        wanted = labels(model, name)
        for key in wanted:
            if (found := meta.labels.get(key, "")) != wanted[key]:
                yield f"{kind} {meta.name}: label {key} is {found!r}, not {wanted[key]!r}"


def _children(model: Model, seen: Observed) -> Iterator[tuple[str, Meta, str]]:
    for job in seen.jobs:
        if job.meta.is_child_of(model.uid):
            yield "Job", job.meta, c.NAME_PRUNE if c.ANNOTATION_KEPT in job.meta.annotations else c.NAME_MERGE
    for item in seen.deployments:
        if item.meta.is_child_of(model.uid):
            yield "Deployment", item.meta, c.NAME_SERVER
    for pod in seen.pods:
        if pod.revision and pod.meta.labels.get(c.LABEL_MODEL_UID) == model.uid:
            yield "Pod", pod.meta, c.NAME_SERVER


def drift_condition(drifts: Sequence[Drift]) -> Mapping[str, str] | None:
    """Return reason and message of the condition; None without any drift."""
    if not drifts:
        return None
    return {"reason": str(drifts[0].reason), "message": "; ".join(item.message for item in drifts)}
