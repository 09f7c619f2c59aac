"""Bytes as torch's tensors. Imports torch: only what runs beside the reader, or within it, may import this."""

from collections.abc import Callable
from math import lcm
from pathlib import Path

import torch

from vicuna_server.files.data_file import DataFile, LocalFile
from vicuna_server.weights.tensors import TensorSource, read_spans

__all__ = ["TORCH", "mean_row", "named", "view_as"]

TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_BLOCK_BYTES = 128 * 1024 * 1024
_COLUMNS_AT_ONCE = 64  # torch sums so many neighbouring columns together: only whole groups give the same bits
_READ_ELEMENTS = 1024 * 1024

Locate = Callable[[DataFile], Path]


def view_as(data: memoryview | bytearray, dtype: str) -> torch.Tensor:
    """Return a one-dimensional tensor over a buffer."""
    if not len(data):
        return torch.empty(0, dtype=TORCH[dtype])
    return torch.frombuffer(data, dtype=TORCH[dtype])


def named(tensor: torch.Tensor) -> str:
    """Return a tensor's type under safetensors' name."""
    return next(name for name, dtype in TORCH.items() if dtype == tensor.dtype)


def mean_row(source: TensorSource, locate: Locate) -> torch.Tensor:
    """Return the mean of a matrix's rows: bit for bit `tensor.float().mean(dim=0)`.

    The tensor is read once per block of columns that takes 128 MiB in float32, so that memory is bounded.

    Args:
        source: (rows, columns).
        locate: says where a file lies on this machine.
    """
    rows, columns = source.shape
    width = max(1, _BLOCK_BYTES // (4 * rows * _COLUMNS_AT_ONCE)) * _COLUMNS_AT_ONCE
    result = torch.empty(columns, dtype=torch.float32)
    # one buffer for all blocks: allocating one for each fragments the heap
    space = torch.empty(rows * min(width, columns), dtype=torch.float32)
    for first in range(0, columns, width):
        last = min(first + width, columns)
        block = space[: rows * (last - first)].view(rows, last - first)
        for start, stop in _stretches(source, lcm(columns, source.unit)):
            values = _read(source, start, stop, locate).view(-1, columns)
            block[start // columns : stop // columns] = values[:, first:last]
        result[first:last] = block.mean(dim=0)
    return result


def _stretches(source: TensorSource, unit: int) -> list[tuple[int, int]]:
    stride = max(1, _READ_ELEMENTS // unit) * unit
    return [(start, min(start + stride, source.elements)) for start in range(0, source.elements, stride)]


def _read(source: TensorSource, start: int, stop: int, locate: Locate) -> torch.Tensor:
    return view_as(read_spans(source, start, stop, lambda file: LocalFile(locate(file))), source.dtype)
