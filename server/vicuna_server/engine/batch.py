"""The running batch: sequences join and leave between any two forward passes."""

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vicuna_server.engine.answer import Answer
from vicuna_server.engine.base import Generation
from vicuna_server.engine.kv import RowCache
from vicuna_server.engine.sampling import Sampler, choose_tokens
from vicuna_server.errors import EngineError

__all__ = ["Batch", "Outcome", "Sequence"]

CHUNK_ALONE = 1024
CHUNK_IN_COMPANY = 128
"""Prompt tokens per pass: while others generate, a long prompt must not hold up their next token."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One request in the engine thread.

    Attributes:
        ids: The prompt.
        answer: Text side of the answer.
        done: Positions whose keys and values are in the cache.
        last: The token to feed next, once the prompt is in.
        cancelled: Set from any thread when the client has left.
    """

    ids: list[int]
    sampler: Sampler
    answer: Answer
    generation: Generation
    done: int = 0
    last: int = -1
    cancelled: bool = field(default=False)


Outcome = tuple[Sequence, int | EngineError]
"""A sequence and its next token, or the failure that ends it."""


class Batch:
    """Rows 0…n-1 of the cache generate; the row behind them, if any, takes in its prompt chunk by chunk.

    All calls come from one thread, under `torch.inference_mode`.

    Args:
        model: A causal language model of transformers.
        device: Where its inputs go.
        max_length: The context length.
    """

    def __init__(self, model: Any, device: torch.device, max_length: int) -> None:
        self._model = model
        self._device = device
        self._cache = RowCache(max_length)
        self._cache_name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
        self._blocked = torch.finfo(model.dtype).min
        self.rows: list[Sequence] = []
        self.joining: Sequence | None = None

    def __len__(self) -> int:
        return len(self.rows) + (self.joining is not None)

    def sequences(self) -> list[Sequence]:
        """Return all sequences that hold a row."""
        return [*self.rows, *([self.joining] if self.joining is not None else [])]

    def join(self, sequence: Sequence) -> None:
        """Begin to take in a sequence's prompt; one at a time."""
        self.joining = sequence

    def prefill(self) -> Outcome | None:
        """Take in the next chunk of the joining prompt; the last one gives the answer's first token."""
        sequence = self.joining
        if sequence is None:
            return None
        chunk = sequence.ids[sequence.done :][: CHUNK_IN_COMPANY if self.rows else CHUNK_ALONE]
        row, start, end = len(self.rows), sequence.done, sequence.done + len(chunk)
        self._cache.reserve(row + 1, end + 1)
        self._cache.aim(row, [start], len(chunk), torch.tensor([start]))
        columns, lines = torch.arange(end), torch.arange(start, end)
        logits = self._forward(torch.tensor([chunk]), lines[None], (columns[None] <= lines[:, None])[None])
        sequence.done = end
        if end < len(sequence.ids):
            return None
        self.joining = None
        self.rows.append(sequence)
        return sequence, choose_tokens(logits, [sequence.sampler])[0]

    def step(self) -> list[Outcome]:
        """Generate one token for every row."""
        starts = [sequence.done for sequence in self.rows]
        positions = torch.tensor(starts)
        end = max(starts) + 1
        self._cache.reserve(len(self), end)
        self._cache.aim(0, starts, 1, positions)
        inputs = torch.tensor([[sequence.last] for sequence in self.rows])
        visible = torch.arange(end)[None, None] <= positions[:, None, None]
        logits = self._forward(inputs, positions[:, None], visible)
        for sequence in self.rows:
            sequence.done += 1
        tokens = choose_tokens(logits, [sequence.sampler for sequence in self.rows])
        return list(zip(self.rows, tokens, strict=True))

    def leave(self, sequence: Sequence, *, wipe: bool = False) -> None:
        """Free a sequence's row; the last rows move into the gap, so that rows stay neighbours.

        Args:
            sequence: One that holds a row.
            wipe: Overwrite the row with zeros: what a failed sequence leaves may be NaN, which no mask hides.
        """
        if wipe:
            self._cache.wipe(self.sequences().index(sequence))
        if sequence is self.joining:
            self.joining = None
        elif sequence in self.rows:
            gap, last = self.rows.index(sequence), len(self.rows) - 1
            if gap != last:
                self._cache.move(last, gap, self.rows[last].done)
                self.rows[gap] = self.rows[last]
            self.rows.pop()
            # One that has not begun has no row yet.
            if self.joining is not None and self.joining.done:
                self._cache.move(last + 1, last, self.joining.done)
        if not len(self):
            self._cache.clear()

    def abandon(self) -> list[Sequence]:
        """Drop every sequence and the cache after a failed pass, and return them."""
        dropped = self.sequences()
        self.rows, self.joining = [], None
        self._cache.clear()
        return dropped

    def _forward(self, inputs: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
        """Run the model; return the last position's logits, shape (rows, vocabulary).

        Args:
            inputs: Token ids, shape (rows, new).
            positions: Their positions, shape (rows, new).
            visible: Which cached positions each new token may see, shape (rows, new, cached).
        """
        mask = torch.zeros(visible.shape, dtype=self._model.dtype).masked_fill_(~visible, self._blocked)
        output = self._model(
            input_ids=inputs.to(self._device),
            position_ids=positions.to(self._device),
            attention_mask=mask[:, None].to(self._device),
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_name: self._cache},
        )
        logits: Tensor = output.logits[:, -1]
        return logits
