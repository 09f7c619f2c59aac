"""The PersistentVolumeClaim that holds a model's artifacts."""

from collections.abc import Mapping
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.resources.common import claim_name, foreign, labels, owner, spec_of

__all__ = ["KEPT", "claim_changes", "claim_owners", "is_ours", "storage_claim"]

_NAME = "vicuna-weights"
KEPT: Mapping[str, str] = {
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
}
"""Annotations that keep GitOps tools from pruning the weights."""


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
        "labels": {**foreign(storage.labels), **_own_labels(model)},
        "annotations": {**KEPT, **foreign(storage.annotations)},
    }
    if owners := claim_owners(model):
        metadata["ownerReferences"] = owners
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def claim_changes(model: Model, found: Mapping[str, str], noted: Mapping[str, str]) -> dict[str, Any]:
    """Return the changes to a claim's metadata: what the spec states now, and what protects it from pruning.

    Entries that the spec does not state any more stay, since somebody else may have written them.
    """
    storage, own = spec_of(model).storage, _own_labels(model)
    unkept = {key: value for key, value in KEPT.items() if key not in noted}
    annotations = unkept | _missing(foreign(storage.annotations), noted)
    labels_wanted = {key: value for key, value in foreign(storage.labels).items() if key not in own}
    changed: dict[str, Any] = _missing(labels_wanted, found)
    if unkept and _is_tracked(found, labels_wanted):
        changed[c.LABEL_INSTANCE] = None
    return {key: part for key, part in (("annotations", annotations), ("labels", changed)) if part}


def _missing(wanted: Mapping[str, str], there: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in wanted.items() if there.get(key) != value}


def _is_tracked(found: Mapping[str, str], stated: Mapping[str, str]) -> bool:
    """Tell whether a claim of an earlier version has the label by which Argo CD claims objects without an owner."""
    return c.LABEL_INSTANCE in found and c.LABEL_INSTANCE not in stated


def _own_labels(model: Model) -> dict[str, str]:
    return {key: value for key, value in labels(model, _NAME).items() if key != c.LABEL_INSTANCE}


def claim_owners(model: Model) -> list[dict[str, Any]]:
    """Return the ownerReferences the claim should have."""
    return [owner(model)] if spec_of(model).storage.reclaim_policy == "Delete" else []


def is_ours(model: Model, claim_labels: Mapping[str, str]) -> bool:
    """Tell whether the operator made a claim for a model of this name, even where a policy rewrote one label."""
    made = claim_labels.get(c.LABEL_MANAGED_BY) == c.MANAGED_BY or claim_labels.get(c.LABEL_NAME) == _NAME
    return made and claim_labels.get(c.LABEL_MODEL) == model.name
