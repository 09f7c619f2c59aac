"""How the merged tensors are spread over output files; fixed before the first byte is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lcm, prod
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vicuna_server.files.data_file import DataFile
from vicuna_server.weights.formats.safetensors_format import build_header
from vicuna_server.weights.tensors import DTYPE_BYTES, TensorSource

if TYPE_CHECKING:
    import torch

__all__ = ["LEAST_SHARD_BYTES", "Observer", "OutputTensor", "Padding", "Patch", "Shard", "lay_out"]

LEAST_SHARD_BYTES = 64 * 1024 * 1024
_MOST_SHARD_BYTES = 5_000_000_000
_USUAL_SHARDS = 32


class Padding(Protocol):
    """What stands in the rows that a delta has and its base lacks; without one they are zero."""

    def prepare(self, locate: Callable[[DataFile], Path]) -> None:
        """Read what is needed, before the tensor's first chunk; `locate` says where a file of the base lies by then."""

    def row(self) -> "torch.Tensor":
        """Return the float32 values of one such row."""


class Patch(Protocol):
    """A change to a finished tensor, such as a low-rank update of an adapter."""

    def apply(self, rows: "torch.Tensor", first_row: int) -> None:
        """Change rows [first_row, first_row + len(rows)) in place.

        Args:
            rows: 2-D (rows, columns) in the output's type.
            first_row: where they begin in the tensor.
        """


class Observer(Protocol):
    """Looks at what a tensor is made of, such as for a checksum, without changing it."""

    def observe(self, base: "torch.Tensor", delta: "torch.Tensor | None", result: "torch.Tensor") -> None:
        """Look at one chunk: what was read, and their sum (or difference) before it has the output's type; all 1-D."""


@dataclass(frozen=True)
class OutputTensor:
    """One tensor of the output and how it comes about; `shape` and `dtype` are the output's.

    Attributes:
        name: its name in the artifact.
        shape: its shape.
        dtype: its type under safetensors' name.
        base: what is read first; fewer rows than the output are padded.
        delta: what is added to it; None: the base is taken as it is.
        padding: fills the rows that the base lacks; None: zero.
        subtract: take base from delta instead of adding (how a delta is made).
        patches: applied in order after the sum has the output's type.
        observer: sees every chunk.
        sum_dtype: what both are cast to before they are added; None: the delta's type.
        counted: count the values that the conversion to `dtype` changes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    base: TensorSource
    delta: TensorSource | None = None
    padding: Padding | None = None
    subtract: bool = False
    patches: tuple[Patch, ...] = ()
    observer: Observer | None = None
    sum_dtype: str | None = None
    counted: bool = False

    @property
    def sources(self) -> tuple[TensorSource, ...]:
        """What is read: the base, and the delta if there is one."""
        return (self.base,) if self.delta is None else (self.base, self.delta)

    @property
    def elements(self) -> int:
        """Number of elements of the output."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes in the output."""
        return self.elements * DTYPE_BYTES[self.dtype]

    @property
    def unit(self) -> int:
        """Chunks begin and end at multiples of this many elements: whole rows where rows matter."""
        row = prod(self.shape[1:]) if self.patches or self.padding else 1
        return lcm(row, *(source.unit for source in self.sources))

    @property
    def bytes_to_read(self) -> int:
        """Number of bytes read from base and delta."""
        return sum(source.nbytes for source in self.sources)


@dataclass(frozen=True)
class Shard:
    """One output file: its name, its header and its tensors in order."""

    name: str
    header: bytes
    tensors: tuple[OutputTensor, ...]

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return len(self.header) + sum(output.nbytes for output in self.tensors)

    @property
    def bytes_to_read(self) -> int:
        """Number of bytes of base and delta that make it."""
        return sum(output.bytes_to_read for output in self.tensors)


def lay_out(outputs: Sequence[OutputTensor], least_shard_bytes: int = LEAST_SHARD_BYTES) -> list[Shard]:
    """Fill shards of min(5 GB, max(largest tensor, 64 MiB, total/32)) in the order given, named as by transformers.

    Args:
        outputs: all tensors, in the order in which they are written.
        least_shard_bytes: what stands for the 64 MiB.
    """
    largest = max(output.nbytes for output in outputs)
    total = sum(output.nbytes for output in outputs)
    limit = min(_MOST_SHARD_BYTES, max(largest, least_shard_bytes, total // _USUAL_SHARDS))
    groups: list[list[OutputTensor]] = []
    room = 0
    for output in outputs:
        if not groups or output.nbytes > room:
            groups.append([])
            room = limit
        groups[-1].append(output)
        room -= output.nbytes
    return [
        Shard(
            "model.safetensors" if len(groups) == 1 else f"model-{number:05}-of-{len(groups):05}.safetensors",
            build_header((output.name, output.dtype, output.shape) for output in group),
            tuple(group),
        )
        for number, group in enumerate(groups, start=1)
    ]
