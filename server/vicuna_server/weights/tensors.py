"""What a checkpoint says about one tensor: its name, type, shape and where its bytes lie."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

from vicuna_server.errors import InputError
from vicuna_server.files.data_file import DataFile, map_concurrently

__all__ = [
    "DTYPE_BYTES",
    "FLOAT_DTYPES",
    "OUTPUT_DTYPES",
    "Span",
    "Tensor",
    "TensorSource",
    "holding",
    "read_each",
    "read_elements",
    "read_spans",
]

# bytes per element under safetensors' own type names
DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})
OUTPUT_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}


def holding(*dtypes: str) -> str:
    """Return the narrowest float type that has every value of all of these float types."""
    if len(set(dtypes)) == 1:
        return dtypes[0]
    return "F64" if "F64" in dtypes else "F32"


@dataclass(frozen=True)
class Span:
    """One contiguous stretch of a file and where its bytes go in a chunk: (start, length) in bytes, in file order."""

    file: DataFile
    offset: int
    places: tuple[tuple[int, int], ...]


class TensorSource(Protocol):
    """A row-major, little-endian tensor that can be read chunk by chunk, however its bytes are spread over files."""

    @property
    def name(self) -> str:
        """Its name in the checkpoint."""

    @property
    def dtype(self) -> str:
        """Element type under safetensors' name."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape; () for a scalar."""

    @property
    def elements(self) -> int:
        """Number of elements."""

    @property
    def nbytes(self) -> int:
        """Number of bytes."""

    @property
    def unit(self) -> int:
        """Chunks begin and end at multiples of this many elements."""

    @property
    def files(self) -> tuple[DataFile, ...]:
        """The files that hold it."""

    def spans(self, start: int, stop: int) -> tuple[Span, ...]:
        """Say what to read for elements [start, stop), both multiples of `unit` (or the end)."""


@dataclass(frozen=True)
class Tensor:
    """A tensor in one stretch of one file; `offset` counts bytes from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: DataFile
    offset: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes in the file."""
        return self.elements * DTYPE_BYTES[self.dtype]

    @property
    def unit(self) -> int:
        """Any element may begin a chunk."""
        return 1

    @property
    def files(self) -> tuple[DataFile, ...]:
        """The file that holds it."""
        return (self.file,)

    def spans(self, start: int, stop: int) -> tuple[Span, ...]:
        """Say what to read for elements [start, stop)."""
        width = DTYPE_BYTES[self.dtype]
        return (Span(self.file, self.offset + start * width, ((0, (stop - start) * width),)),)


def read_elements(tensor: TensorSource, start: int, stop: int) -> bytearray:
    """Return the bytes of elements [start, stop), both multiples of the tensor's unit: for a few rows, not for all.

    Raises:
        InputError: `TruncatedShard`: a file became shorter since its header was read.
    """
    return read_spans(tensor, start, stop, lambda file: file)


def read_spans(tensor: TensorSource, start: int, stop: int, locate: Callable[[DataFile], DataFile]) -> bytearray:
    """Do what `read_elements` does, where `locate` says which file to read in a file's place."""
    data = bytearray((stop - start) * DTYPE_BYTES[tensor.dtype])
    for span in tensor.spans(start, stop):
        size = sum(length for _, length in span.places)
        block = locate(span.file).read(span.offset, size)
        if len(block) < size:
            raise InputError("TruncatedShard", f"{span.file} became shorter while it was read; merge again")
        position, rest = 0, memoryview(block)
        for place, length in span.places:
            data[place : place + length] = rest[position : position + length]
            position += length
    return data


def read_each(ranges: Sequence[tuple[TensorSource, int, int]]) -> Iterator[bytearray]:
    """Yield the bytes of each (tensor, start, stop), as `read_elements` returns them."""
    return map_concurrently(
        lambda each: read_elements(*each), ranges, [file for tensor, *_ in ranges for file in tensor.files]
    )
