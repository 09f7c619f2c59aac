"""A warning where the weights cannot fit the GPU memory that a spec allows; the server itself has the last word."""

from vicuna_operator.api.model import Model
from vicuna_operator.api.quantity import parse_quantity
from vicuna_operator.planning.actions import Note
from vicuna_operator.planning.failures import report, size_told
from vicuna_operator.planning.observed import Observed
from vicuna_operator.resources.common import spec_of

__all__ = ["memory_note"]

_BYTES = {"float16": 2.0, "bfloat16": 2.0, "float32": 4.0}
_QUANTIZED = {"int8": 1.0, "nf4": 0.5}
"""Bytes of one weight; embedding and head stay as they are, so that this is the least that it takes."""
_GIBIBYTE = 2**30


def memory_note(model: Model, artifact_id: str, seen: Observed) -> Note | None:
    """Compare what the weights take at least with `numGpus` times `maxGpuMemory`; None where either is not known."""
    spec = spec_of(model)
    serving = spec.serving
    size = _size(artifact_id, seen)
    if serving.max_gpu_memory is None or not serving.num_gpus or size is None:
        return None
    stored = _BYTES[spec.merge.dtype]
    each = _QUANTIZED.get(serving.quantization) or _BYTES.get(serving.dtype, 2.0)
    needed, allowed = size / stored * each, serving.num_gpus * parse_quantity(serving.max_gpu_memory)
    if needed <= allowed:
        return None
    return Note(
        "Warning",
        "GpuMemoryTooSmall",
        f"the weights take {needed / _GIBIBYTE:.1f} GiB or more, numGpus x maxGpuMemory is "
        f"{allowed / _GIBIBYTE:.1f} GiB: the servers will refuse to start; raise numGpus or maxGpuMemory, or quantize",
    )


def _size(artifact_id: str, seen: Observed) -> int | None:
    """Return an artifact's bytes: as noted on its Job, or as its pod has just told."""
    for job in seen.jobs:
        if job.artifact_id == artifact_id and job.artifact_bytes is not None:
            return job.artifact_bytes
    for pod in seen.pods:
        said = report(pod.terminated.message) if pod.terminated is not None else None
        if said is not None and said.get("artifactID") == artifact_id:
            return size_told(said)
    return None
