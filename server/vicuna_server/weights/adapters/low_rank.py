"""The change that LoRA makes to a matrix: scale * B @ A, added to a few rows at a time.

As peft's `merge` of an adapter loaded by `PeftModel.from_pretrained` on a CPU: A and B are float32 whatever the file
holds, product, scale and sum are float32, and the sum is rounded once, to the type of the model's weights; an
embedding's product is rounded to it before it is added as well (peft 0.21.2, tuners/lora/layer.py, get_delta_weight
and merge; tuners/tuners_utils.py, cast_adapter_dtype).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vicuna_server.weights.tensors import TensorSource, read_elements

if TYPE_CHECKING:
    import torch

__all__ = ["LowRank"]

_READ_ELEMENTS = 1024 * 1024


@dataclass(frozen=True)
class LowRank:
    """A `layout.Patch`. It reads what it needs of A and B for each stretch of rows and keeps nothing.

    Attributes:
        down: A: (rank, columns); of an embedding (rank, rows).
        up: B: (rows, rank); of an embedding (columns, rank).
        scale: factor of the product.
        of_embedding: whether the product is stored transposed, as for `nn.Embedding`.
    """

    down: TensorSource
    up: TensorSource
    scale: float
    of_embedding: bool = False

    @property
    def rank(self) -> int:
        """Number of A's rows and B's columns."""
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix that this changes."""
        inner, outer = self.down.shape[1], self.up.shape[0]
        return (inner, outer) if self.of_embedding else (outer, inner)

    def apply(self, rows: "torch.Tensor", first_row: int) -> None:
        """Add this change's rows [first_row, first_row + len(rows)) to `rows`, 2-D in the output's type, in place."""
        last_row = first_row + len(rows)
        if self.of_embedding:
            product = (_matrix(self.up) @ _columns(self.down, first_row, last_row)).T
            rows.add_(product.mul_(self.scale).to(rows.dtype))
        else:
            product = _rows(self.up, first_row, last_row) @ _matrix(self.down)
            rows.copy_(rows.float().add_(product.mul_(self.scale)))  # rows.add_ gives the same, ten times slower


def _matrix(source: TensorSource) -> "torch.Tensor":
    return _rows(source, 0, source.shape[0])


def _rows(source: TensorSource, first: int, last: int) -> "torch.Tensor":
    """Read rows [first, last) as float32."""
    columns = source.shape[1]
    step = max(1, _READ_ELEMENTS // columns) * columns
    starts = range(first * columns, last * columns, step)
    return _read(source, [(start, min(start + step, last * columns)) for start in starts]).view(-1, columns)


def _columns(source: TensorSource, first: int, last: int) -> "torch.Tensor":
    """Read columns [first, last) as float32, row by row."""
    starts = range(0, source.elements, source.shape[1])
    return _read(source, [(start + first, start + last) for start in starts]).view(-1, last - first)


def _read(source: TensorSource, stretches: Sequence[tuple[int, int]]) -> "torch.Tensor":
    """Read stretches of elements, one after the other, into one float32 tensor."""
    import torch

    from vicuna_server.weights.torch_tensors import view_as

    result = torch.empty(sum(stop - start for start, stop in stretches), dtype=torch.float32)
    place = 0
    for start, stop in stretches:
        values = view_as(read_elements(source, start, stop), source.dtype)
        result[place : place + len(values)] = values
        place += len(values)
    return result
