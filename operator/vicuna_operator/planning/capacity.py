"""Warnings where a model cannot fit into what its spec allows; server and merge themselves decide."""

from collections.abc import Iterator

from vicuna_contract.quantity import parse_quantity
from vicuna_contract.termination import read_report
from vicuna_operator.api.model import Model
from vicuna_operator.api.types import VicunaModelSpec
from vicuna_operator.planning.actions import NewEvent
from vicuna_operator.planning.observed import Observed
from vicuna_operator.resources.common import claim_name, spec_of

__all__ = ["capacity_warnings"]

_BYTES = {"float16": 2.0, "bfloat16": 2.0, "float32": 4.0}
_WIDEST = max(_BYTES.values())
_QUANTIZED = {"int8": 1.0, "nf4": 0.5}
"""Bytes of one weight. Embedding and head are not quantized, so this is a lower bound."""
_GIBIBYTE = 2**30


def capacity_warnings(model: Model, artifact_id: str, seen: Observed) -> Iterator[NewEvent]:
    """Hold an artifact's size against GPU memory and volume, where all of it is known."""
    size = _size(artifact_id, seen)
    if size is not None:
        yield from _gpu_memory(model, size)
        yield from _volume(model, size, seen)


def _gpu_memory(model: Model, size: int) -> Iterator[NewEvent]:
    """Compare what the weights take at least with `numGpus` times `maxGpuMemory`."""
    spec = spec_of(model)
    serving = spec.serving
    if serving.max_gpu_memory is None or not serving.num_gpus:
        return
    needed = size * _share(spec)
    allowed = serving.num_gpus * parse_quantity(serving.max_gpu_memory)
    if needed > allowed:
        message = (
            f"the weights take {_words(needed)} or more, numGpus x maxGpuMemory is {_words(allowed)}: the servers will "
            "refuse to start; raise numGpus or maxGpuMemory, or quantize"
        )
        yield NewEvent("Warning", "GpuMemoryTooSmall", message)


def _share(spec: VicunaModelSpec) -> float:
    """Return how much of an artifact's size its weights take at least when served."""
    serving = spec.serving
    each = _QUANTIZED.get(serving.quantization) or _BYTES.get(serving.dtype)
    if each is None:
        return 1.0  # auto: in the artifact's own type
    # `auto` takes the base's own type, which is not known here: the widest type gives the lower bound.
    return each / _BYTES.get(spec.merge.dtype, _WIDEST)


def _volume(model: Model, size: int, seen: Observed) -> Iterator[NewEvent]:
    """Compare the claim with the artifacts of all revisions that are to be kept, and the one in the making."""
    claim, kept = seen.claims.get(claim_name(model)), spec_of(model).storage.keep_revisions
    stated = (claim.capacity or claim.requested) if claim is not None else ""
    needed = size * (kept + 1)
    if stated and needed > (room := parse_quantity(stated)):
        message = (
            f"PersistentVolumeClaim {claim_name(model)} has {_words(room)}; artifacts of keepRevisions + 1 revisions "
            f"like this take {_words(needed)}, {_words(needed - room)} more: raise storage.size or lower keepRevisions"
        )
        yield NewEvent("Warning", "StorageTooSmall", message)


def _size(artifact_id: str, seen: Observed) -> int | None:
    """Return an artifact's bytes: from the annotation of its Job, or from its pod's termination message."""
    for job in seen.jobs:
        if job.artifact_id == artifact_id and job.artifact_bytes is not None:
            return job.artifact_bytes
    for pod in seen.pods:
        report = read_report(pod.terminated.message) if pod.terminated is not None else None
        if report is not None and report.artifact_id == artifact_id:
            return report.bytes
    return None


def _words(size: float) -> str:
    return f"{size / _GIBIBYTE:.1f} GiB"
