"""Reuses the memory of tensors that are soon dropped: new pages cost several times as much as filling them."""

import math
import weakref
from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

__all__ = ["Recycling"]

_Memory = np.ndarray[tuple[int], np.dtype[np.uint8]]


class Recycling:
    """Makes tensors on the CPU; when one is freed, its memory goes to the next of its size.

    A tensor that is still in use keeps its memory. Several threads may use this at once.
    """

    def __init__(self) -> None:
        self._free: defaultdict[int, list[_Memory]] = defaultdict(list)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor with any content."""
        size = math.prod(shape) * dtype.itemsize
        try:
            memory = self._free[size].pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        # The view ends with its tensor, which gives the memory back. The reference is weak, so that tensors in use do
        # not keep unused memory.
        lent = memory[:]
        weakref.finalize(lent, _take_back, weakref.ref(self), memory)
        return torch.from_numpy(lent).view(dtype).view(shape)


def _take_back(owner: weakref.ref[Recycling], memory: _Memory) -> None:
    if (recycling := owner()) is not None:
        recycling._free[memory.size].append(memory)
