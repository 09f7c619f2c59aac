"""Keys and values of all sequences, one preallocated buffer per layer."""

from dataclasses import dataclass

import torch

__all__ = ["KeyValueShape", "KeyValueStore"]


@dataclass(frozen=True, slots=True)
class KeyValueShape:
    """What a model keeps per token.

    Attributes:
        layers: Device of each layer.
        heads: Key/value heads per layer.
        size: Numbers per head.
        dtype: Their format.
    """

    layers: tuple[torch.device, ...]
    heads: int
    size: int
    dtype: torch.dtype

    @property
    def token_bytes(self) -> int:
        """Bytes per token over all layers."""
        return len(self.layers) * 2 * self.heads * self.size * self.dtype.itemsize


class KeyValueStore:
    """Buffers of shape (capacity, heads, head size) per layer, for keys and for values.

    They are not filled with zeros: nothing reads what was not written, and on the CPU the operating system then
    gives memory only for what is used.
    """

    def __init__(self, shape: KeyValueShape, capacity: int) -> None:
        self.shape = shape
        size = (capacity, shape.heads, shape.size)
        self.keys = [torch.empty(size, dtype=shape.dtype, device=device) for device in shape.layers]
        self.values = [torch.empty(size, dtype=shape.dtype, device=device) for device in shape.layers]

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy the keys and values of `count` tokens to another place; the two may overlap when moving down."""
        # Piece by piece no piece overlaps its target, and little memory is needed on the way.
        step = count if abs(target - source) >= count else abs(target - source)
        for buffer in (*self.keys, *self.values):
            for offset in range(0, count, max(1, step)):
                length = min(step, count - offset)
                buffer[target + offset : target + offset + length] = buffer[source + offset : source + offset + length]
