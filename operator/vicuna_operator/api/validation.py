"""Validates a spec: each field by its type, then the rules across fields. All faults are named at once."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vicuna_contract.names import KIND, MAX_MODEL_NAME
from vicuna_contract.sources import ClaimSource, FileSource, HubSource, Location, parse_declared, parse_digest
from vicuna_operator.api.types import (
    AdapterSource,
    ServingSpec,
    StorageSpec,
    VicunaModelSpec,
    WeightsSource,
    WeightsSpec,
)
from vicuna_operator.api.vllm_rules import engine_faults
from vicuna_operator.errors import Fault, SpecError

__all__ = ["parse_spec"]

Part = WeightsSpec | ServingSpec | StorageSpec

_PARTS: Mapping[str, type[Part]] = {"weights": WeightsSpec, "serving": ServingSpec, "storage": StorageSpec}
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def parse_spec(raw: object, *, name: str, local: bool = False) -> VicunaModelSpec:
    """Validate a spec by type and across fields; `name` is the model's.

    Raises:
        SpecError: names all wrong fields and what to do.
    """
    faults = [*_name_faults(name)]
    try:
        spec = VicunaModelSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError([*faults, *_type_faults(error), *_rule_faults(_readable(raw), local)]) from None
    faults += _rule_faults((spec.weights, spec.serving, spec.storage), local)
    if faults:
        raise SpecError(faults)
    return spec


def _name_faults(name: str) -> Iterator[Fault]:
    if len(name) > MAX_MODEL_NAME or not _DNS_LABEL.fullmatch(name):
        found = repr(name) if name else "is missing; it"
        message = (
            f"{found} must be at most {MAX_MODEL_NAME} lower-case letters, digits and dashes, beginning with a letter:"
            f" it names the Service and the pods of this {KIND}"
        )
        yield Fault("metadata.name", message)


def _type_faults(error: ValidationError) -> Iterator[Fault]:
    for item in error.errors(include_url=False):
        place = item["loc"]
        # The last word may be a branch of `str | int`, which is not a field; the first branch speaks for both.
        if place[-1:] == ("int",) and item["type"] == "int_type":
            continue
        if place[-1:] == ("str",) and item["type"] == "string_type":
            place = place[:-1]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
        yield Fault(f"spec{path}", _type_message(item))


def _type_message(item: ErrorDetails) -> str:
    match item["type"]:
        case "missing":
            return "is missing; give a source such as hf://ORG/NAME or pvc://CLAIM/PATH"
        case "size":
            return item["msg"]
        case "model_type" | "dict_type":
            expected = "expected an object"  # Pydantic names Python's classes
        case _:
            expected = item["msg"][0].lower() + item["msg"][1:]
    return f"found {item['input']!r:.80}; {expected}"


def _readable(raw: object) -> Iterator[Part]:
    """Yield the parts of a spec that have no wrong type, where another one has."""
    if isinstance(raw, Mapping):
        for name, kind in _PARTS.items():
            with suppress(ValidationError):
                yield kind.model_validate(raw.get(name, {}))


def _rule_faults(parts: Iterable[Part], local: bool) -> Iterator[Fault]:
    for part in parts:
        match part:
            case WeightsSpec():
                yield from _weights_faults(part, local)
            case ServingSpec():
                yield from _serving_faults(part)
            case StorageSpec():
                yield from _storage_faults(part, local)


def _weights_faults(weights: WeightsSpec, local: bool) -> Iterator[Fault]:
    named: list[tuple[str, WeightsSource | None]] = [("base", weights.base), ("delta", weights.delta)]
    named += [(f"adapters[{i}]", adapter) for i, adapter in enumerate(weights.adapters)]
    for where, source in named:
        if source is not None:
            yield from _source_faults(f"spec.weights.{where}", source, local)


def _source_faults(where: str, source: WeightsSource, local: bool) -> Iterator[Fault]:
    try:
        location = parse_declared(source.source)
    except ValueError as error:
        yield Fault(f"{where}.source", str(error))
    else:
        yield from _location_faults(where, source, location, local)
    try:
        _ = source.digest is None or parse_digest(source.digest)
    except ValueError as error:
        yield Fault(f"{where}.digest", str(error))


def _location_faults(where: str, source: WeightsSource, location: Location, local: bool) -> Iterator[Fault]:
    if isinstance(location, FileSource) and not local:
        yield Fault(f"{where}.source", "file:// works in local runs only; put the weights on a claim and say pvc://")
    # For adapters the definition (CRD) alone has this rule.
    if isinstance(location, ClaimSource) and not location.path and not isinstance(source, AdapterSource):
        yield Fault(f"{where}.source", "name the folder inside the claim: pvc://CLAIM/PATH")
    if not isinstance(location, HubSource) and source.revision is not None:
        yield Fault(f"{where}.revision", "only hf:// sources have revisions; remove it")


def _serving_faults(serving: ServingSpec) -> Iterator[Fault]:
    if serving.device == "cuda" and serving.num_gpus == 0:
        yield Fault("spec.serving.numGpus", "device cuda needs at least 1 GPU; raise it or set device to cpu")
    if serving.max_gpu_memory is not None and serving.num_gpus == 0:
        yield Fault("spec.serving.maxGpuMemory", "has no meaning with numGpus 0; remove it")
    scaling = serving.autoscaling
    if scaling is not None and scaling.min_replicas > scaling.max_replicas:
        message = f"is more than maxReplicas ({scaling.max_replicas}); lower it, or raise maxReplicas"
        yield Fault("spec.serving.autoscaling.minReplicas", message)
    for name, message in engine_faults(serving):
        yield Fault(f"spec.serving.{name}", message)


def _storage_faults(storage: StorageSpec, local: bool) -> Iterator[Fault]:
    if storage.claim_name is not None:
        for name, value in (("size", storage.size), ("storageClassName", storage.storage_class_name)):
            if value is not None:
                message = "belongs to a claim the operator makes; claimName names an existing one"
                yield Fault(f"spec.storage.{name}", f"{message}; remove one of them")
    elif storage.size is None and not local:
        message = "is needed to make the claim (the weights times keepRevisions, and some more); or set claimName"
        yield Fault("spec.storage.size", message)
