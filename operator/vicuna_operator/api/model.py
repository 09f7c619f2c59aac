"""A VicunaModel as the operator reads it: metadata, validated spec or the error in it, last status."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from vicuna_contract.names import KIND, MAX_MODEL_NAME
from vicuna_contract.quantity import parse_quantity
from vicuna_contract.sources import ClaimSource, FileSource, HubSource, parse_declared, parse_digest
from vicuna_operator.api.finalizers import foreign_finalizers
from vicuna_operator.api.types import VicunaModelSpec, WeightsSource
from vicuna_operator.api.vllm_rules import engine_faults
from vicuna_operator.errors import SpecError

__all__ = ["Model", "parse_model", "parse_spec"]

_OBJECTS = ("active", "target", "merge", "lastFailure")
_LISTS = ("conditions", "history")
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class Model:
    """One VicunaModel. Exactly one of `spec` and `spec_error` is set."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: VicunaModelSpec | None
    spec_error: SpecError | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    deleting: bool = False
    created: str = ""
    finalizers: Sequence[str] = ()  # of others than Kubernetes itself

    @property
    def going(self) -> bool:
        """Tell whether it is being deleted and no finalizer of others keeps it."""
        return self.deleting and not self.finalizers


def parse_model(body: Mapping[str, Any], *, local: bool = False) -> Model:
    """Read a VicunaModel object; a wrong spec becomes `spec_error`, never an exception.

    `local` allows file:// sources and a missing storage size, and refuses unknown fields.
    """
    metadata = body.get("metadata") or {}
    spec: VicunaModelSpec | None = None
    error: SpecError | None = None
    try:
        spec = parse_spec(body.get("spec"), name=str(metadata.get("name", "")), local=local)
    except SpecError as caught:
        error = caught
    return Model(
        name=str(metadata.get("name", "")),
        namespace=str(metadata.get("namespace", "default")),
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation", 0)),
        spec=spec,
        spec_error=error,
        annotations=dict(metadata.get("annotations") or {}),
        status=_flattened(body.get("status")),
        deleting="deletionTimestamp" in metadata,
        created=str(metadata.get("creationTimestamp") or ""),
        finalizers=foreign_finalizers(metadata.get("finalizers")),
    )


def _flattened(status: object) -> dict[str, Any]:
    """Read a status; members of the wrong form are left out."""
    known = status if isinstance(status, Mapping) else {}
    plain = _members(known)
    objects = {key: _members(known[key]) for key in _OBJECTS if isinstance(known.get(key), Mapping)}
    lists = {
        key: [_members(item) for item in known[key] if isinstance(item, Mapping)]
        for key in _LISTS
        if isinstance(known.get(key), list)
    }
    return {key: value for key, value in plain.items() if key not in (*_OBJECTS, *_LISTS)} | objects | lists


def _members(value: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): item for key, item in value.items() if isinstance(item, str | int | float)}


def parse_spec(raw: object, *, name: str, local: bool = False) -> VicunaModelSpec:
    """Validate a spec by type and across fields.

    Raises:
        SpecError: names the first wrong field and what to do.
    """
    if len(name) > MAX_MODEL_NAME or not _DNS_LABEL.fullmatch(name):
        raise SpecError(
            "metadata.name",
            f"{name!r} must be at most {MAX_MODEL_NAME} lower-case letters, digits and dashes, beginning with a letter:"
            f" it names the Service and the pods of this {KIND}",
        )
    try:
        spec = VicunaModelSpec.model_validate(raw, extra="forbid" if local else None)
    except ValidationError as caught:
        first = caught.errors()[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        message = "this field does not exist" if first["type"] == "extra_forbidden" else first["msg"]
        raise SpecError(f"spec{path}", message) from None
    _check_weights(spec, local)
    _check_serving(spec)
    _check_storage(spec, local)
    return spec


def _check_weights(spec: VicunaModelSpec, local: bool) -> None:
    weights = spec.weights
    named: list[tuple[str, WeightsSource]] = [("spec.weights.base", weights.base)]
    if weights.delta is not None:
        named.append(("spec.weights.delta", weights.delta))
    named += [(f"spec.weights.adapters[{i}]", adapter) for i, adapter in enumerate(weights.adapters)]
    for where, source in named:
        _check_source(where, source, local)


def _check_source(where: str, source: WeightsSource, local: bool) -> None:
    try:
        location = parse_declared(source.source)
    except ValueError as error:
        raise SpecError(f"{where}.source", str(error)) from None
    if isinstance(location, FileSource) and not local:
        raise SpecError(
            f"{where}.source",
            "file:// works in local runs only; put the weights on a claim and say pvc://",
        )
    if not isinstance(location, HubSource) and source.revision is not None:
        raise SpecError(f"{where}.revision", "only hf:// sources have revisions; remove it")
    try:
        _ = source.digest is None or parse_digest(source.digest)
    except ValueError as error:
        raise SpecError(f"{where}.digest", str(error)) from None


def _check_serving(spec: VicunaModelSpec) -> None:
    serving = spec.serving
    if serving.device == "cuda" and serving.num_gpus == 0:
        raise SpecError("spec.serving.numGpus", "device cuda needs at least 1 GPU; raise it or set device to cpu")
    if serving.max_gpu_memory is not None:
        _check_quantity("spec.serving.maxGpuMemory", serving.max_gpu_memory)
        if serving.num_gpus == 0:
            raise SpecError("spec.serving.maxGpuMemory", "has no meaning with numGpus 0; remove it")
    for field_name, fault in engine_faults(serving):
        raise SpecError(f"spec.serving.{field_name}", fault)


def _check_storage(spec: VicunaModelSpec, local: bool) -> None:
    storage = spec.storage
    if storage.claim_name is not None:
        for field_name, value in (("size", storage.size), ("storageClassName", storage.storage_class_name)):
            if value is not None:
                raise SpecError(
                    f"spec.storage.{field_name}",
                    "belongs to a claim the operator makes; claimName names an existing one",
                )
    elif storage.size is not None:
        _check_quantity("spec.storage.size", storage.size)
    elif not local:
        raise SpecError(
            "spec.storage.size",
            "is needed to make the claim (the weights times keepRevisions, and some more); or set claimName",
        )
    for where, source in (("base", spec.weights.base), ("delta", spec.weights.delta)):
        if (
            source is not None
            and isinstance(location := parse_declared(source.source), ClaimSource)
            and not location.path
        ):
            raise SpecError(f"spec.weights.{where}.source", "name the folder inside the claim: pvc://CLAIM/PATH")


def _check_quantity(field_name: str, value: str | int) -> None:
    try:
        bytes_ = parse_quantity(value)
    except ValueError as error:
        raise SpecError(field_name, str(error)) from None
    if bytes_ <= 0:
        raise SpecError(field_name, f"{value!r} must be more than zero")
