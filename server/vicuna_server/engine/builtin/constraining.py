"""Keeps an answer to a grammar: which tokens may come next is found out while the model computes their logits."""

from collections.abc import Iterable
from concurrent.futures import Executor, Future

import numpy
import torch
from llguidance import LLMatcher
from torch import Tensor

from vicuna_server.errors import EngineError

__all__ = ["Follower"]


class Follower:
    """Follows the tokens of one answer. `apply` and `note` are called in turns, by one thread at a time.

    Args:
        start: A matcher at the beginning of the grammar, which is copied.
        size: Ids below this are tokens.
        ends: Tokens that end the answer; they may come where it is complete, and nowhere else.
        pool: Where the next mask is made.
    """

    def __init__(self, start: LLMatcher, size: int, ends: Iterable[int], pool: Executor) -> None:
        self.complete = False
        """Whether the answer is, so that nothing may come any more."""
        self._matcher = start.deep_copy()
        self._size = size
        self._ends = sorted(ends)
        self._pool = pool
        self._mask: Future[Tensor] = pool.submit(self._forbidden)

    def apply(self, logits: Tensor) -> None:
        """Rule tokens out in place, in float32 logits of shape (vocabulary,) on the CPU.

        Raises:
            EngineError: `GrammarStuck`: no token is left.
        """
        forbidden = self._mask.result()
        logits[: len(forbidden)].masked_fill_(forbidden[: len(logits)], -torch.inf)
        logits[len(forbidden) :] = -torch.inf
        if not torch.isfinite(logits.max()):
            raise EngineError(
                "GrammarStuck",
                "no token of this model goes on with the format asked for, or its grammar has become too large; "
                "simplify it",
            )

    def note(self, token: int) -> None:
        """Follow a chosen token."""
        self._mask.result()  # a matcher does one thing at a time
        if token in self._ends:
            return
        self._matcher.consume_token(token)
        self.complete = self._matcher.is_stopped() and not self._matcher.is_error()
        if not self.complete:
            self._mask = self._pool.submit(self._forbidden)

    def _forbidden(self) -> Tensor:
        """Return which tokens may not come next, as bools of shape (vocabulary,); all where the matcher has failed."""
        bits = numpy.frombuffer(self._matcher.compute_bitmask(), numpy.uint8)
        allowed = numpy.unpackbits(bits, count=self._size, bitorder="little")
        if self._matcher.is_error():
            allowed[:] = 0
        allowed[self._ends] = self._matcher.is_accepting() and not self._matcher.is_error()
        return torch.from_numpy(allowed == 0)
