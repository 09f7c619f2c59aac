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
    """Makes tensors on the CPU; the memory of one that is gone goes to the next of its size.

    A tensor that is kept keeps its memory, as any does. May be used by several threads.
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
        # A view of its own for each tensor, whose end is the tensor's; weakly, so that what is kept keeps no more.
        lent = memory[:]
        weakref.finalize(lent, _take_back, weakref.ref(self), memory)
        return torch.from_numpy(lent).view(dtype).view(shape)


def _take_back(owner: weakref.ref[Recycling], memory: _Memory) -> None:
    if (recycling := owner()) is not None:
        recycling._free[memory.size].append(memory)
