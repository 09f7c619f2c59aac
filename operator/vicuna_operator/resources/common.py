"""What all children have in common: names, labels, ownership, security contexts, affinity to the volume."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.api.types import VicunaModelSpec
from vicuna_operator.resources.identity import short_hash

__all__ = [
    "CONTAINER_SECURITY",
    "affinity_to_volume",
    "claim_name",
    "environment",
    "foreign",
    "labels",
    "managed_object",
    "owner",
    "pod_security",
    "spec_of",
    "with_hash",
]

CONTAINER_SECURITY: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

_USER = 65532  # the images' user; fsGroup gives it the volume


def spec_of(model: Model) -> VicunaModelSpec:
    """Return the valid spec; building children of an invalid one is a bug."""
    if model.spec is None:
        raise ValueError(f"{model.namespace}/{model.name} has no valid spec")
    return model.spec


def claim_name(model: Model) -> str:
    """Return the claim that holds the artifacts."""
    return spec_of(model).storage.claim_name or c.weights_claim(model.name)


def labels(model: Model, name: str, **more: str) -> dict[str, str]:
    """Return the labels every child carries, and more by constant name."""
    return {
        c.LABEL_NAME: name,
        c.LABEL_INSTANCE: model.name,
        c.LABEL_MANAGED_BY: c.MANAGED_BY,
        c.LABEL_MODEL: model.name,
        **more,
    }


def owner(model: Model) -> dict[str, Any]:
    """Return the controller ownerReference, by which the garbage collector removes a child with its model."""
    return {
        "apiVersion": c.API_VERSION,
        "kind": c.KIND,
        "name": model.name,
        "uid": model.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def foreign(stated: Mapping[str, str]) -> dict[str, str]:
    """Return the labels or annotations that a user may state: not those of our own group, which are the operator's."""
    return {key: value for key, value in stated.items() if not key.startswith(f"{c.GROUP}/")}


def managed_object(
    model: Model,
    api_version: str,
    kind: str,
    spec: Mapping[str, Any],
    *,
    stated_labels: Mapping[str, str] = MappingProxyType({}),
    stated_annotations: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Build an object that a model has once, under its name; our own labels and annotations have precedence."""
    metadata: dict[str, Any] = {
        "name": model.name,
        "namespace": model.namespace,
        "labels": {**foreign(stated_labels), **labels(model, c.NAME_SERVER)},
        "ownerReferences": [owner(model)],
    }
    if stated := foreign(stated_annotations):
        metadata["annotations"] = stated
    return with_hash({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": dict(spec)})


def pod_security(override: Mapping[str, Any], *, platform_user: bool) -> dict[str, Any]:
    """Return the pod's security context: Pod Security Standard `restricted`, and what the user sets on top.

    `platform_user` leaves user and groups to the platform, which gives each namespace a range of its own (OpenShift).
    """
    user = {} if platform_user else {"runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER}
    return {
        "runAsNonRoot": True,
        **user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
        **override,
    }


def affinity_to_volume(model: Model, affinity: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    """Return the affinity with a term that keeps pods on the node of the model's servers.

    A volume that is not ReadWriteMany can be attached to one node only. The scheduler lets the first pod of such a
    self-affine group go anywhere.
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in affinity.items()}
    term = {
        "labelSelector": {"matchLabels": {c.LABEL_NAME: c.NAME_SERVER, c.LABEL_MODEL: model.name}},
        "topologyKey": "kubernetes.io/hostname",
    }
    pods = dict(result.get("podAffinity") or {})
    if required:
        key = "requiredDuringSchedulingIgnoredDuringExecution"
        pods[key] = [*(pods.get(key) or []), term]
    else:
        key = "preferredDuringSchedulingIgnoredDuringExecution"
        pods[key] = [*(pods.get(key) or []), {"weight": 100, "podAffinityTerm": term}]
    return {**result, "podAffinity": pods}


def environment(own: Sequence[Mapping[str, Any]], stated: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return a container's variables; the user's have precedence over ours."""
    names = {item.get("name") for item in stated}
    return [*(item for item in own if item["name"] not in names), *stated]


def with_hash(body: dict[str, Any]) -> dict[str, Any]:
    """Return the object with a hash annotation, which shows when it must be applied again."""
    metadata = dict(body["metadata"])
    annotations = {**(metadata.get("annotations") or {}), c.ANNOTATION_APPLIED_HASH: short_hash(body, 16)}
    return {**body, "metadata": {**metadata, "annotations": annotations}}
