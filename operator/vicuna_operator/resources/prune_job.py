"""The Job that runs `vicuna-server artifacts prune`: it removes from the claim what no revision refers to any more."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vicuna_contract import names as c
from vicuna_contract.prune_arguments import PruneArguments
from vicuna_operator.api.model import Model
from vicuna_operator.resources.common import claim_name, labels
from vicuna_operator.resources.identity import short_hash
from vicuna_operator.resources.volume_pod import volume_job, volume_pod

__all__ = ["prune_job", "prune_job_name"]


def prune_job_name(model: Model, keep: Iterable[str]) -> str:
    """Return `<model>-prune-<8 hex over what is kept>`."""
    return c.prune_job(model.name, short_hash(sorted(keep), 8))


def prune_job(
    model: Model,
    *,
    keep: Iterable[str],
    quarantined: Sequence[str] = (),
    image: str,
    pull_policy: str,
    shared_volume: bool,
    platform_user: bool = False,
) -> dict[str, Any]:
    """Build the Job that keeps these artifacts only; it removes the damaged copies of those in `quarantined`."""
    kept = sorted(keep)
    own_labels = labels(model, c.NAME_PRUNE, **{c.LABEL_MODEL_UID: model.uid})
    tmp = "/tmp"  # noqa: S108  # an emptyDir of the pod
    pod = volume_pod(
        model,
        image=image,
        pull_policy=pull_policy,
        arguments=PruneArguments(Path(c.ARTIFACTS_ROOT), tuple(kept)).to_argv(),
        environment=[
            {"name": "HOME", "value": tmp},
            {"name": "HF_HUB_OFFLINE", "value": "1"},
            *([{"name": c.ASIDE_VARIABLE, "value": ",".join(quarantined)}] if quarantined else []),
        ],
        volumes=[
            {"name": "models", "persistentVolumeClaim": {"claimName": claim_name(model)}},
            {"name": "tmp", "emptyDir": {}},
        ],
        mounts=[{"name": "models", "mountPath": c.MODELS_MOUNT}, {"name": "tmp", "mountPath": tmp}],
        shared_volume=shared_volume,
        platform_user=platform_user,
    )
    annotations = {c.ANNOTATION_CLAIM: claim_name(model), c.ANNOTATION_KEPT: json.dumps(kept)}
    if quarantined:
        annotations[c.ANNOTATION_ASIDE] = json.dumps(list(quarantined))
    return volume_job(model, prune_job_name(model, kept), own_labels=own_labels, annotations=annotations, pod=pod)
