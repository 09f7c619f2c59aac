"""Keys and values of all running sequences, one row each, in buffers that grow in steps.

A row holds its sequence from position 0, so rows of different lengths run in one forward pass: new keys are
written at each row's own position, and the attention mask hides what lies behind its end. Nothing is
concatenated, so a step costs no copy of the cache.
"""

import torch
from torch import Tensor

__all__ = ["RowCache"]

LENGTH_STEP = 256
"""Positions by which the buffers grow at least."""


class RowCache:
    """What a transformers model sees as its cache; only `update` is called, since masks come from outside.

    Buffers have shape (rows, key/value heads, positions, head size), per layer, on that layer's device.
    """

    is_compileable = False

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._rows = 0
        self._length = 0
        # The write of the current forward pass: rows first..first+count, each from its own position on.
        self._first = 0
        self._positions = torch.zeros(0, dtype=torch.long)
        self._starts: list[int] = []
        self._end = 0

    def reserve(self, rows: int, length: int) -> None:
        """Make room for that many rows and positions; a moment's copy when the buffers must grow."""
        if rows <= self._rows and length <= self._length:
            return
        new_rows = self._rows if rows <= self._rows else max(rows, 2 * self._rows)
        new_length = self._length
        if length > self._length:
            stepped = -(-max(length, self._length * 3 // 2) // LENGTH_STEP) * LENGTH_STEP
            new_length = max(length, min(stepped, self._max_length))
        for buffers in (self._keys, self._values):
            for layer, old in enumerate(buffers):
                buffers[layer] = _grown(old, new_rows, new_length)
        self._rows, self._length = new_rows, new_length

    def aim(self, first: int, starts: list[int], count: int, positions: Tensor) -> None:
        """Say where the next forward pass writes.

        Args:
            first: First of the neighbouring rows in the pass.
            starts: Position of each row's first new token.
            count: New tokens per row; above 1 only for a single row.
            positions: `starts` as a tensor of shape (rows,).
        """
        self._first, self._starts, self._positions = first, starts, positions
        self._end = max(starts) + count

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Store new keys and values of shape (rows, heads, new, size); return all of these rows' so far."""
        if layer_idx == len(self._keys):
            shape = (self._rows, key.shape[1], self._length)
            # Zeros, not garbage: a masked NaN would still poison the weighted sum.
            self._keys.append(key.new_zeros((*shape, key.shape[3])))
            self._values.append(value.new_zeros((*shape, value.shape[3])))
        last = self._first + key.shape[0]
        keys, values = self._keys[layer_idx][self._first : last], self._values[layer_idx][self._first : last]
        if len(self._starts) == 1:
            start = self._starts[0]
            keys[0, :, start : self._end] = key[0]
            values[0, :, start : self._end] = value[0]
        else:
            rows = torch.arange(len(self._starts), device=key.device)
            positions = self._positions.to(key.device)
            keys[rows, :, positions] = key[:, :, 0]
            values[rows, :, positions] = value[:, :, 0]
        return keys[:, :, : self._end], values[:, :, : self._end]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one row over another."""
        for buffer in (*self._keys, *self._values):
            buffer[target, :, :length] = buffer[source, :, :length]

    def wipe(self, row: int) -> None:
        """Overwrite a row with zeros."""
        for buffer in (*self._keys, *self._values):
            buffer[row].zero_()

    def clear(self) -> None:
        """Give all memory back; only while no row is in use."""
        self._keys.clear()
        self._values.clear()
        self._rows = self._length = 0


def _grown(old: Tensor, rows: int, length: int) -> Tensor:
    new = old.new_zeros((rows, old.shape[1], length, old.shape[3]))
    new[: old.shape[0], :, : old.shape[2]] = old
    return new
