"""The PersistentVolumeClaim that holds a model's artifacts."""

from collections.abc import Mapping
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.resources.common import claim_name, labels, owner, spec_of

__all__ = ["KEPT", "claim_marks", "claim_owners", "is_ours", "storage_claim"]

_NAME = "vicuna-weights"
KEPT: Mapping[str, str] = {
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
}
"""What keeps GitOps tools from pruning the weights with whatever they take for theirs."""


def storage_claim(model: Model) -> dict[str, Any]:
    """Build the claim; only `reclaimPolicy: Delete` makes the model its owner."""
    storage = spec_of(model).storage
    spec: dict[str, Any] = {
        "accessModes": [storage.access_mode],
        "resources": {"requests": {"storage": str(storage.size)}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    metadata: dict[str, Any] = {
        "name": claim_name(model),
        "namespace": model.namespace,
        "labels": {key: value for key, value in labels(model, _NAME).items() if key != c.LABEL_INSTANCE},
        "annotations": dict(KEPT),
    }
    if owners := claim_owners(model):
        metadata["ownerReferences"] = owners
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def claim_marks(found: Mapping[str, str], noted: Mapping[str, str]) -> dict[str, Any]:
    """Return the change of metadata that keeps a claim of an earlier version from being pruned; empty: none is needed.

    Argo CD, where it tracks by label, takes for its own what has the label `app.kubernetes.io/instance` and no owner.
    """
    missing = {key: value for key, value in KEPT.items() if key not in noted}
    change: dict[str, Any] = {"annotations": missing} if missing else {}
    return change | ({"labels": {c.LABEL_INSTANCE: None}} if missing and c.LABEL_INSTANCE in found else {})


def claim_owners(model: Model) -> list[dict[str, Any]]:
    """Return the ownerReferences the claim should have."""
    return [owner(model)] if spec_of(model).storage.reclaim_policy == "Delete" else []


def is_ours(model: Model, claim_labels: Mapping[str, str]) -> bool:
    """Tell a claim the operator made for a model of this name from a stranger's, whatever policy rewrote one label."""
    made = claim_labels.get(c.LABEL_MANAGED_BY) == c.MANAGED_BY or claim_labels.get(c.LABEL_NAME) == _NAME
    return made and claim_labels.get(c.LABEL_MODEL) == model.name
