"""Keeps the answers of a batch to their grammars: which tokens may come next is found out while the model computes."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

import numpy
import torch
from llguidance import LLExecutor, LLMatcher
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask_par
from numpy.typing import NDArray
from torch import Tensor

from vicuna_server.errors import EngineError
from vicuna_server.machine import usable_cpus

__all__ = ["NO_MASKS", "Follower", "MaskMaker", "Masks"]

MOST_THREADS = 8


class Follower:
    """Follows the tokens of one answer. While a mask is made of it, nothing else is done with it.

    Args:
        start: A matcher at the beginning of the grammar, which is copied.
        size: Ids below this are tokens; the matcher has one more, its own end.
        ends: Tokens that end the answer; they may come where it is complete, and nowhere else.
    """

    def __init__(self, start: LLMatcher, size: int, ends: Iterable[int]) -> None:
        self.complete = False
        """Whether the answer is, so that nothing may come any more."""
        self.matcher = start.deep_copy()
        self.size = size
        self._ends = sorted(ends)

    def note(self, token: int) -> None:
        """Follow a chosen token."""
        if token in self._ends:
            return
        self.matcher.consume_token(token)
        self.complete = self.matcher.is_stopped() and not self.matcher.is_error()

    def correct(self, mask: NDArray[numpy.uint8]) -> None:
        """Put this answer's ends in place of the matcher's; nothing may come where the matcher has failed.

        Args:
            mask: What the matcher allows, a bit per token, the lowest of each byte first; changed in place.
        """
        if self.matcher.is_error():
            mask[:] = 0
        _put(mask, self.size, allowed=False)
        ending = self.matcher.is_accepting() and not self.matcher.is_error()
        for token in self._ends:
            _put(mask, token, allowed=ending)


def _put(mask: NDArray[numpy.uint8], token: int, *, allowed: bool) -> None:
    bit = numpy.uint8(1 << (token & 7))
    mask[token >> 3] = mask[token >> 3] | bit if allowed else mask[token >> 3] & ~bit


class Masks:
    """What may come next in the rows of a batch that keep to a grammar.

    Args:
        masks: Of each of these rows, as in `Follower.correct`.
    """

    def __init__(self, masks: Mapping[int, NDArray[numpy.uint8]]) -> None:
        self._masks = masks

    def allows(self, row: int, token: int) -> bool:
        """Whether a token may come in a row; in one without a grammar each may."""
        mask = self._masks.get(row)
        return mask is None or (token >> 3 < len(mask) and bool(mask[token >> 3] >> (token & 7) & 1))

    def apply(self, row: int, logits: Tensor) -> None:
        """Rule tokens out in place, in a row's float32 logits of shape (vocabulary,) on the CPU.

        Raises:
            EngineError: `GrammarStuck`: no token is left.
        """
        mask = self._masks.get(row)
        if mask is None:
            return
        # Zeros are added for tokens of the model that the tokenizer has not.
        allowed = numpy.unpackbits(mask, count=len(logits), bitorder="little")
        logits.masked_fill_(torch.from_numpy(allowed == 0), -torch.inf)
        if not torch.isfinite(logits.max()):
            raise EngineError(
                "GrammarStuck",
                "no token of this model goes on with the format asked for, or its grammar has become too large; "
                "simplify it",
            )


NO_MASKS = Masks({})


class MaskMaker:
    """Makes the masks of a batch in other threads; for the thread that runs the batch."""

    def __init__(self) -> None:
        # One thread, so that each job finds what the one before it has used left alone, even if nobody waited for it.
        self._thread = ThreadPoolExecutor(1, "masks")

    def begin(self, followers: Sequence[Follower | None]) -> Future[Masks]:
        """Begin to make the masks of a batch's rows; None: the row has no grammar.

        No follower may note a token until they are made.
        """
        ruled = {row: follower for row, follower in enumerate(followers) if follower is not None}
        if ruled:
            return self._thread.submit(self._made, ruled)
        none: Future[Masks] = Future()
        none.set_result(NO_MASKS)
        return none

    def close(self) -> None:
        """End the threads."""
        self._thread.shutdown(wait=False)

    def _made(self, ruled: Mapping[int, Follower]) -> Masks:
        followers = list(ruled.values())
        bits = allocate_token_bitmask(len(followers), 1 + max(follower.size for follower in followers))
        matchers = [(follower.matcher, place) for place, follower in enumerate(followers)]
        fill_next_token_bitmask_par(self._executor, matchers, bits)
        masks = bits.view(numpy.uint8)
        for follower, mask in zip(followers, masks, strict=True):
            follower.correct(mask)
        return Masks(dict(zip(ruled, masks, strict=True)))

    @cached_property
    def _executor(self) -> LLExecutor:
        return LLExecutor(min(MOST_THREADS, usable_cpus()))
