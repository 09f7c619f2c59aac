"""What a checkpoint says about one tensor: its name, type, shape and where its bytes lie."""

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path

__all__ = ["DTYPE_BYTES", "FLOAT_DTYPES", "OUTPUT_DTYPES", "Tensor", "read_range"]

# bytes per element under safetensors' own type names
DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})
OUTPUT_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}


@dataclass(frozen=True)
class Tensor:
    """A contiguous, row-major, little-endian tensor inside a file; `offset` counts bytes from its start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes in the file."""
        return self.elements * DTYPE_BYTES[self.dtype]


def read_range(path: Path, offset: int, size: int) -> bytes:
    """Read `size` bytes at `offset`, fewer at the end of the file."""
    with path.open("rb") as file:
        return os.pread(file.fileno(), size, offset)
