"""Checkpoints whose weights lie in memory or nowhere, for tests of what a merge reads of them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import Tensor, TensorSource

CODES = {np.dtype("<f8"): "F64", np.dtype("<f4"): "F32", np.dtype("<f2"): "F16"}


@dataclass(frozen=True)
class MemoryFile:
    """A file of weights in memory."""

    name: str
    content: bytes
    sha256: str | None = None

    @property
    def size(self) -> int:
        return len(self.content)

    def read(self, offset: int, size: int) -> bytes:
        return self.content[offset : offset + size]


@dataclass(eq=False)
class ZeroFile:
    """A file of any size that holds zeros only and counts what is read of it."""

    name: str
    size: int
    reads: list[int] = field(default_factory=list)
    sha256: str | None = None

    def read(self, offset: int, size: int) -> bytes:
        self.reads.append(size)
        return bytes(max(0, min(size, self.size - offset)))


def memory_checkpoint(name: str, arrays: dict[str, NDArray[Any]], **config: Any) -> Checkpoint:
    """Return a checkpoint of little-endian float arrays; its folder is only a name."""
    tensors: dict[str, TensorSource] = {}
    files = []
    for key, array in arrays.items():
        file = MemoryFile(f"{key}.part", array.tobytes())
        files.append(file)
        tensors[key] = Tensor(key, CODES[array.dtype], array.shape, file, 0)
    return Checkpoint(Path(name), {"model_type": "llama", **config}, tensors, list(files), [])
