"""The rows that Stanford's alpaca adds to its base before it adds the delta."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vicuna_server.files.data_file import DataFile
from vicuna_server.weights.tensors import TensorSource

if TYPE_CHECKING:
    import torch

__all__ = ["MeanRow"]


class MeanRow:
    """New rows that are the float32 mean of all old ones.

    As in Stanford's smart_tokenizer_and_embedding_resize (stanford_alpaca, train.py and weight_diff.py).

    Args:
        tensor: the base's embedding or head, (rows, columns).
    """

    def __init__(self, tensor: TensorSource) -> None:
        self._tensor = tensor
        self._row: torch.Tensor | None = None

    def prepare(self, locate: Callable[[DataFile], Path]) -> None:
        """Read the tensor and take the mean, 32 MiB at a time."""
        from vicuna_server.weights.torch_tensors import mean_row

        self._row = mean_row(self._tensor, locate)

    def row(self) -> "torch.Tensor":
        """Return the mean row: float32, (columns,)."""
        assert self._row is not None  # noqa: S101 - the reader prepares a tensor before its first chunk
        return self._row
