"""The two identities for weights that the operator computes: `mergeKey` and `revision` (docs/contract.md)."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel

from vicuna_contract.names import ANNOTATION_RESTARTED
from vicuna_contract.recipe import RECIPE_VERSION
from vicuna_contract.vllm_arguments import VLLM
from vicuna_operator.api.types import VicunaModelSpec

__all__ = [
    "canonical_json",
    "merge_key",
    "merge_series",
    "restarted_as",
    "revision",
    "rollout_attempt",
    "short_hash",
    "spec_snapshot",
]

# Fields of how many pods there are and how they are replaced.
_NUMBERS = {"replicas", "autoscaling", "rollout"}
# Fields that do not change what a pod serves.
_NOT_IN_REVISION = {
    *_NUMBERS,
    *("service_type", "service_labels", "service_annotations"),
    *("image", "engine_image"),  # given resolved
}


def canonical_json(value: object) -> str:
    """Render JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def short_hash(value: object, length: int) -> str:
    """Return the first `length` hexadecimal digits of the sha256 of the value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def merge_key(spec: VicunaModelSpec) -> str:
    """Return 10 hex that name the merge: weights without credentials, dtype, recipe version."""
    weights = _stated(spec.weights)
    weights.pop("credentialsSecret", None)
    return short_hash({"weights": weights, "dtype": spec.merge.dtype, "recipe": RECIPE_VERSION}, 10)


def merge_series(spec: VicunaModelSpec, *, claim: str, retry: str) -> str:
    """Return 8 hex over all that could make a failed merge end differently now.

    Attempts of one series share one budget of retries; a new series starts afresh. The operator's default image is
    left out: upgrading the operator starts no Job.
    """
    merge = _stated(spec.merge)
    merge.pop("retries", None)
    merge.pop("maxBytesPerSecond", None)
    return short_hash(
        {
            "merge": merge,
            "credentials": spec.weights.credentials_secret,
            "chatTemplate": spec.serving.chat_template,
            "image": spec.serving.image,
            "placement": [_stated(spec.serving).get(name) for name in ("nodeSelector", "affinity", "tolerations")],
            "claim": claim,
            "size": spec.storage.size,
            "retry": retry,
        },
        8,
    )


def revision(
    spec: VicunaModelSpec, *, artifact_id: str, image: str, engine_image: str | None = None, digest: str | None = None
) -> str:
    """Return 8 hex over the artifact, the resolved images and whatever in `serving` changes the pods.

    Fields equal to their default are left out, so that a new field with a default changes no running revision. A
    claim named by the user counts too: the same artifact on another volume needs other pods. So does `digest`, which is
    given only where the artifact was merged anew with other bytes while a revision of the earlier ones is there.
    """
    serving = _stated(spec.serving, leave_out=_NOT_IN_REVISION)
    if serving.get("engine") != VLLM:
        serving.pop("engine", None)  # builtin, stated or not, is the same engine
    identity: dict[str, Any] = {"artifactID": artifact_id, "image": image, "serving": serving}
    if engine_image is not None:
        identity["engineImage"] = engine_image
    if spec.storage.claim_name is not None:
        identity["claim"] = spec.storage.claim_name
    if digest is not None:
        identity["digest"] = digest
    return short_hash(identity, 8)


def restarted_as(spec: VicunaModelSpec, moment: str | None) -> VicunaModelSpec:
    """Return the spec with another time of restart: equal specs then differ by a restart only."""
    others = {key: value for key, value in spec.serving.pod_annotations.items() if key != ANNOTATION_RESTARTED}
    annotations = others if moment is None else {**others, ANNOTATION_RESTARTED: moment}
    serving = spec.serving.model_copy(update={"pod_annotations": annotations})
    return spec.model_copy(update={"serving": serving})


def _stated(part: BaseModel, leave_out: set[str] | None = None) -> dict[str, Any]:
    return part.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=leave_out)


def rollout_attempt(spec: VicunaModelSpec, *, retry: str) -> str:
    """Return 8 hex over all that could make a failed rollout end differently now.

    The number of replicas and `suspend` are not part of it: an autoscaler must not cause a retry.
    """
    stated = _stated(spec, leave_out={"suspend"})
    for name in ("replicas", "autoscaling"):
        (stated.get("serving") or {}).pop(name, None)
    return short_hash({"spec": stated, "retry": retry}, 8)


def spec_snapshot(spec: VicunaModelSpec) -> dict[str, Any]:
    """Return the parts of a spec that make its revision, shaped like the spec, defaults left out.

    Setting them again brings the revision back; the number of pods and the way of rolling out are not among them.
    """
    snapshot = {
        "weights": _stated(spec.weights),
        "serving": _stated(spec.serving, leave_out=_NUMBERS),
        "merge": {"dtype": spec.merge.dtype},
    }
    if spec.storage.claim_name is not None:
        snapshot["storage"] = {"claimName": spec.storage.claim_name}
    return snapshot
