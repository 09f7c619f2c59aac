"""The Job that runs `vicuna-server merge`: one attempt, never retried by Kubernetes itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vicuna_contract import names as c
from vicuna_contract.merge_arguments import MergeArguments
from vicuna_contract.sources import ClaimSource, HubSource, parse_declared, parse_digest
from vicuna_contract.templates import AUTO
from vicuna_operator.api.model import Model
from vicuna_operator.api.types import WeightsSource
from vicuna_operator.resources.common import claim_name, environment, labels, spec_of
from vicuna_operator.resources.identity import merge_key
from vicuna_operator.resources.volume_pod import volume_job, volume_pod

__all__ = ["job_name", "merge_job", "source_claims"]

_CA_FOLDER = "/etc/vicuna/ca"
_TOKEN_FOLDER, _TOKEN_KEY = "/etc/vicuna/hub", "token"


def job_name(model: Model, attempt: int) -> str:
    """Return `<model>-merge-<mergeKey>-<attempt>`."""
    return c.merge_job(model.name, merge_key(spec_of(model)), attempt)


def source_claims(model: Model) -> dict[str, ClaimSource]:
    """Return the inputs that lie on claims, by their role: `base`, `delta`, `adapter-0` and so on."""
    found = {role: parse_declared(source.source) for role, source in _inputs(model)}
    return {role: location for role, location in found.items() if isinstance(location, ClaimSource)}


def merge_job(
    model: Model,
    *,
    attempt: int,
    series: str,
    image: str,
    pull_policy: str,
    shared_volume: bool,
    capacity: str,
    claim_uid: str = "",
    verification: str = "",
    platform_user: bool = False,
) -> dict[str, Any]:
    """Build one attempt.

    Args:
        model: with a valid spec.
        attempt: its number.
        series: identifies the attempts that share a budget of retries.
        image: of the container.
        pull_policy: of the image.
        shared_volume: whether pods of several nodes can mount the volume.
        capacity: of the claim; empty while it is unbound.
        claim_uid: of the claim; empty while it does not exist.
        verification: key of the verification that this Job makes; empty: none.
        platform_user: leave user and groups of the pod to the platform.
    """
    volumes, mounts = _volumes(model)
    pod = volume_pod(
        model,
        image=image,
        pull_policy=pull_policy,
        arguments=_arguments(model),
        environment=[*_environment(model), *([{"name": c.VERIFY_VARIABLE, "value": "1"}] if verification else [])],
        volumes=volumes,
        mounts=mounts,
        shared_volume=shared_volume,
        platform_user=platform_user,
    )
    own_labels = labels(
        model, c.NAME_MERGE, **{c.LABEL_MERGE_KEY: merge_key(spec_of(model)), c.LABEL_MODEL_UID: model.uid}
    )
    annotations = {
        c.ANNOTATION_ATTEMPT: str(attempt),
        c.ANNOTATION_SERIES: series,
        c.ANNOTATION_CLAIM: claim_name(model),
        c.ANNOTATION_CAPACITY: capacity,
        **({c.ANNOTATION_CLAIM_UID: claim_uid} if claim_uid else {}),
        **({c.ANNOTATION_VERIFY: verification} if verification else {}),
    }
    return volume_job(model, job_name(model, attempt), own_labels=own_labels, annotations=annotations, pod=pod)


def _inputs(model: Model) -> list[tuple[str, WeightsSource]]:
    weights = spec_of(model).weights
    named: list[tuple[str, WeightsSource]] = [("base", weights.base)]
    if weights.delta is not None:
        named.append(("delta", weights.delta))
    return named + [(f"adapter-{i}", adapter) for i, adapter in enumerate(weights.adapters)]


def _uri(model: Model, role: str, source: WeightsSource) -> str:
    """Return the URI as the container sees it."""
    location = parse_declared(source.source, source.revision)
    if isinstance(location, ClaimSource):
        of_storage = location.claim == claim_name(model)
        location = location.mounted_at(c.MODELS_MOUNT if of_storage else c.source_mount(role))
    return location.uri


def _arguments(model: Model) -> list[str]:
    spec = spec_of(model)
    inputs = {role: (_uri(model, role, source), _digest(source)) for role, source in _inputs(model)}
    base, base_digest = inputs.pop("base")
    delta, delta_digest = inputs.pop("delta", (None, None))
    return MergeArguments(
        base=base,
        base_digest=base_digest,
        delta=delta,
        delta_digest=delta_digest,
        adapters=tuple(inputs.values()),
        kind=spec.weights.delta.kind if spec.weights.delta is not None else AUTO,
        output=Path(c.ARTIFACTS_ROOT),
        dtype=spec.merge.dtype,
        chat_template=spec.serving.chat_template,
        max_bytes_per_second=spec.merge.max_bytes_per_second,
    ).to_argv()


def _digest(source: WeightsSource) -> str | None:
    return None if source.digest is None else parse_digest(source.digest)


def _environment(model: Model) -> list[Mapping[str, Any]]:
    spec = spec_of(model)
    from_hub = any(isinstance(parse_declared(source.source), HubSource) for _, source in _inputs(model))
    env: list[dict[str, Any]] = [{"name": "HOME", "value": "/tmp"}]  # noqa: S108  # an emptyDir of the pod
    if not from_hub:
        env.append({"name": "HF_HUB_OFFLINE", "value": "1"})
    if spec.weights.credentials_secret is not None:
        env.append({"name": c.TOKEN_PATH_VARIABLE, "value": f"{_TOKEN_FOLDER}/{_TOKEN_KEY}"})
    if spec.merge.ca_bundle is not None:
        env += [{"name": name, "value": f"{_CA_FOLDER}/ca.crt"} for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")]
    return environment(env, spec.merge.env)


def _volumes(model: Model) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the pod's volumes and the container's mounts; a claim is one volume however often it is mounted."""
    storage = claim_name(model)
    names = {storage: "models"}
    mounts: list[dict[str, Any]] = [{"name": "models", "mountPath": c.MODELS_MOUNT}]
    volumes: list[dict[str, Any]] = [{"name": "models", "persistentVolumeClaim": {"claimName": storage}}]
    for role, location in source_claims(model).items():
        if location.claim == storage:
            continue
        if location.claim not in names:
            names[location.claim] = f"source-{role}"
            claim = {"claimName": location.claim, "readOnly": True}
            volumes.append({"name": names[location.claim], "persistentVolumeClaim": claim})
        mounts.append({"name": names[location.claim], "mountPath": c.source_mount(role), "readOnly": True})
    volumes.append({"name": "tmp", "emptyDir": {}})
    mounts.append({"name": "tmp", "mountPath": "/tmp"})  # noqa: S108
    if (secret := spec_of(model).weights.credentials_secret) is not None:
        key = {"key": _TOKEN_KEY, "path": _TOKEN_KEY}
        volumes.append({"name": "hub-token", "secret": {"secretName": secret, "items": [key]}})
        mounts.append({"name": "hub-token", "mountPath": _TOKEN_FOLDER, "readOnly": True})
    if (bundle := spec_of(model).merge.ca_bundle) is not None:
        volumes.append({"name": "ca", "configMap": {"name": bundle}})
        mounts.append({"name": "ca", "mountPath": _CA_FOLDER, "readOnly": True})
    return volumes, mounts
