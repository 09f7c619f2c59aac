"""How the merged tensors are spread over output files; fixed before the first byte is written."""

from collections.abc import Sequence
from dataclasses import dataclass

from vicuna_server.merge.safetensors_format import build_header
from vicuna_server.merge.tensors import DTYPE_BYTES, Tensor

__all__ = ["Shard", "Step", "lay_out"]

_MOST_SHARD_BYTES = 5_000_000_000
_LEAST_SHARD_BYTES = 64 * 1024 * 1024
_USUAL_SHARDS = 32


@dataclass(frozen=True)
class Step:
    """One tensor of the output and where its parts come from; `shape` and `dtype` are the output's."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    base: Tensor
    delta: Tensor | None

    @property
    def elements(self) -> int:
        """Number of elements of the output."""
        return self.base.elements if self.delta is None else self.delta.elements

    @property
    def nbytes(self) -> int:
        """Number of bytes in the output."""
        return self.elements * DTYPE_BYTES[self.dtype]

    @property
    def bytes_to_read(self) -> int:
        """Number of bytes read from base and delta."""
        return self.base.nbytes + (self.delta.nbytes if self.delta else 0)


@dataclass(frozen=True)
class Shard:
    """One output file: its name, its header and its tensors in order."""

    name: str
    header: bytes
    steps: tuple[Step, ...]

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return len(self.header) + sum(step.nbytes for step in self.steps)


def lay_out(steps: Sequence[Step]) -> list[Shard]:
    """Fill shards of min(5 GB, max(largest tensor, 64 MiB, total/32)) in the order given, named as by transformers."""
    largest = max(step.nbytes for step in steps)
    total = sum(step.nbytes for step in steps)
    limit = min(_MOST_SHARD_BYTES, max(largest, _LEAST_SHARD_BYTES, total // _USUAL_SHARDS))
    groups: list[list[Step]] = []
    room = 0
    for step in steps:
        if not groups or step.nbytes > room:
            groups.append([])
            room = limit
        groups[-1].append(step)
        room -= step.nbytes
    return [
        Shard(
            "model.safetensors" if len(groups) == 1 else f"model-{number:05}-of-{len(groups):05}.safetensors",
            build_header((step.name, step.dtype, step.shape) for step in group),
            tuple(group),
        )
        for number, group in enumerate(groups, start=1)
    ]
