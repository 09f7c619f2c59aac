"""The numbers in a checkpoint: all of its vectors, and a few rows of a few matrices. Read without torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm, prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import DTYPE_BYTES, FLOAT_DTYPES, TensorSource, read_each

__all__ = ["Floats", "SampledPair", "decode", "read_vectors", "sample_pairs"]

Floats: TypeAlias = NDArray[np.floating[Any]]

_CODES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_MATRICES = 8
_ROWS = 64
_MOST_BYTES_A_MATRIX = 2 * 1024 * 1024  # eight matrices of two checkpoints are 32 MiB, whatever the model's width
_MOST_VECTOR_BYTES = 256 * 1024  # a norm of the widest models has a tenth of it
_MOST_VECTOR_BYTES_IN_ALL = 16 * 1024 * 1024


@dataclass(frozen=True)
class SampledPair:
    """The same few rows of a matrix in base and delta: float64, (rows, columns) each."""

    name: str
    base: NDArray[np.float64]
    delta: NDArray[np.float64]


def decode(data: bytes | bytearray, dtype: str) -> Floats:
    """Return little-endian elements as numbers: float64 for F64, float32 for the rest.

    Args:
        data: the elements' bytes.
        dtype: F64, F32, F16 or BF16.
    """
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    values = np.frombuffer(data, _CODES[dtype])
    return values if dtype == "F64" else values.astype(np.float32)


def read_vectors(checkpoint: Checkpoint) -> dict[str, Floats]:
    """Read every vector (norms and biases) of a checkpoint, up to 16 MiB of them."""
    wanted: dict[str, TensorSource] = {}
    room = _MOST_VECTOR_BYTES_IN_ALL
    for name, tensor in checkpoint.tensors.items():
        is_vector = len(tensor.shape) == 1 and tensor.dtype in FLOAT_DTYPES and tensor.elements
        if is_vector and tensor.nbytes <= min(room, _MOST_VECTOR_BYTES):
            wanted[name] = tensor
            room -= tensor.nbytes
    read = read_each([(tensor, 0, tensor.elements) for tensor in wanted.values()])
    return {name: decode(data, wanted[name].dtype) for name, data in zip(wanted, read, strict=True)}


def sample_pairs(base: Checkpoint, delta: Checkpoint) -> Iterator[SampledPair]:
    """Read up to 64 rows from the middle of eight matrices that both have, spread evenly over the model."""
    shared = [
        (tensor, delta.tensors[name]) for name, tensor in base.tensors.items() if _comparable(tensor, delta.tensors)
    ]
    picked = {round(place * (len(shared) - 1) / max(1, _MATRICES - 1)) for place in range(min(_MATRICES, len(shared)))}
    ranges = [(tensor, *_stretch(*shared[place])) for place in sorted(picked) for tensor in shared[place]]
    ranges = [(tensor, start, stop) for tensor, start, stop in ranges if stop > start]
    rows = (
        decode(data, tensor.dtype).astype(np.float64).reshape(-1, tensor.shape[1])
        for data, (tensor, *_) in zip(read_each(ranges), ranges, strict=True)
    )
    for (tensor, *_), ours in zip(ranges[::2], rows, strict=True):
        yield SampledPair(tensor.name, ours, next(rows))


def _comparable(tensor: TensorSource, others: dict[str, TensorSource]) -> bool:
    other = others.get(tensor.name)
    return (
        other is not None
        and len(tensor.shape) == len(other.shape) == 2
        and tensor.shape[1] == other.shape[1]
        and prod(tensor.shape) * prod(other.shape) > 0
        and {tensor.dtype, other.dtype} <= FLOAT_DTYPES
    )


def _stretch(left: TensorSource, right: TensorSource) -> tuple[int, int]:
    """Return which elements to read of both: whole rows and whole units of each."""
    columns = left.shape[1]
    unit = lcm(columns, left.unit, right.unit)
    units = min(left.elements, right.elements) // unit
    most = min(_ROWS * columns, _MOST_BYTES_A_MATRIX // max(DTYPE_BYTES[left.dtype], DTYPE_BYTES[right.dtype]))
    count = min(units, max(1, most // unit))
    first = (units - count) // 2
    return first * unit, (first + count) * unit
