"""One forward pass over new tokens of several sequences, packed one behind the other.

Linear layers see all tokens in one tensor, of all sequences; attention runs per sequence over its
own block of the store. A pass may mix single tokens of running answers with chunks of prompts. On the CPU some
padding follows, see `padding`: attention skips it, and its results are dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from vicuna_server.engine.builtin.kv import KeyValueStore
from vicuna_server.engine.builtin.padding import padded

__all__ = ["Chunk", "Pass"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """New tokens of one sequence.

    Attributes:
        ids: The tokens.
        start: Position of the first of them in its sequence; what lies before is in the store.
        place: Where the sequence's block begins in the store.
    """

    ids: Sequence[int]
    start: int
    place: int


class Pass:
    """The layout of one forward pass; tensors are made once per device that asks.

    Attributes:
        tokens: How many there are.
        chunks: How many there are.
        ids: Token ids, shape (rows,); the first `tokens` are the chunks'.
        positions: Their positions, shape (rows,).
        last: Index of each chunk's last token, of which the first `chunks` count.
    """

    def __init__(self, chunks: Sequence[Chunk], store: KeyValueStore) -> None:
        self._store = store
        self._spans: list[tuple[int, int, int, int]] = []  # (first row, rows, place, length with the new tokens)
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        for chunk in chunks:
            count = len(chunk.ids)
            self._spans.append((len(ids), count, chunk.place, chunk.start + count))
            ids.extend(chunk.ids)
            positions.extend(range(chunk.start, chunk.start + count))
            slots.extend(range(chunk.place + chunk.start, chunk.place + chunk.start + count))
        last = [first + rows - 1 for first, rows, _, _ in self._spans]
        self.tokens, self.chunks, self._slots = len(ids), len(last), torch.tensor(slots)
        if all(device.type == "cpu" for device in store.shape.layers):
            for numbers in (ids, positions, last):
                numbers += [0] * (padded(len(numbers)) - len(numbers))
        self.ids, self.positions, self.last = torch.tensor(ids), torch.tensor(positions), torch.tensor(last)
        self._on: dict[torch.device, tuple[Tensor, list[Tensor | None]]] = {}

    def keeps(self, states: Tensor) -> bool:
        """Whether keys or values of shape (tokens, heads, head size) are what the store was laid out for."""
        return states.shape[1:] == (self._store.shape.heads, self._store.shape.size)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Store the new keys and values, and let every new token see its own sequence up to itself.

        Args:
            layer: Index of the layer.
            query: Shape (tokens and padding, query heads, head size).
            key: Shape (tokens and padding, key/value heads, head size).
            value: As `key`.
            scale: Factor of the dot products.

        Returns:
            Shape (rows, query heads, head size).
        """
        keys, values = self._store.keys[layer], self._store.values[layer]
        heads, size = keys.shape[1:]
        group = query.shape[1] // heads
        slots, masks = self._on.get(query.device) or self._prepare(query.device, query.dtype, group)
        keys.index_copy_(0, slots, key[: self.tokens])
        values.index_copy_(0, slots, value[: self.tokens])
        # The query heads that share a key head stand as further queries of it: nothing is repeated.
        grouped = query.reshape(-1, heads, group, size)
        outputs = []
        for (first, rows, place, length), mask in zip(self._spans, masks, strict=True):
            asking = grouped[first : first + rows]
            if rows > 1:
                asking = asking.permute(1, 2, 0, 3).reshape(1, heads, group * rows, size)
            answer = scaled_dot_product_attention(
                asking, _window(keys, place, length), _window(values, place, length), attn_mask=mask, scale=scale
            )
            if rows > 1:
                answer = answer.view(heads, group, rows, size).permute(2, 0, 1, 3)
            outputs.append(answer)
        if len(query) > self.tokens:
            outputs.append(grouped.new_zeros(grouped[self.tokens :].shape))
        return torch.cat(outputs).view(query.shape)

    def _prepare(self, device: torch.device, dtype: torch.dtype, group: int) -> tuple[Tensor, list[Tensor | None]]:
        masks: list[Tensor | None] = []
        for _, rows, _, length in self._spans:
            if rows == 1:
                masks.append(None)
                continue
            ends = torch.arange(length - rows, length, device=device)
            hidden = torch.arange(length, device=device)[None] > ends[:, None]
            mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))
            masks.append(mask.repeat(group, 1))
        prepared = self._slots.to(device), masks
        self._on[device] = prepared
        return prepared


def _window(buffer: Tensor, place: int, length: int) -> Tensor:
    """Return a block of a buffer as attention wants it, shape (1, heads, length, size), in one operation."""
    _, heads, size = buffer.shape
    step = heads * size
    return buffer.as_strided((1, heads, length, size), (0, size, step, 1), place * step)
