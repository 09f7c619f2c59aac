"""Which tokens may not come next: those a request does not allow, unwanted words, and ends that are too early."""

from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor

__all__ = ["Forbidden"]

_NEVER = -torch.inf


class Forbidden:
    """Which tokens a completion must not have next: vLLM's `allowed_token_ids`, `bad_words` and `min_tokens`.

    Args:
        allowed: the only tokens that may come; None: all.
        words: unwanted words, each as token ids: a word's last token may not come behind the others. Where nothing
            else is left, it may.
        ends: tokens that end the answer.
        min_tokens: so many tokens come before one of them may.
    """

    def __init__(
        self,
        allowed: Collection[int] | None = None,
        words: Iterable[Sequence[int]] = (),
        ends: Iterable[int] = (),
        min_tokens: int = 0,
    ) -> None:
        self._allowed = None if allowed is None else sorted(set(allowed))
        self._words = {tuple(word) for word in words if word}
        self._ends = sorted(set(ends)) if min_tokens else []
        self._min_tokens = min_tokens
        self._tokens = 0
        self._longest = max(map(len, self._words), default=0)
        self._last: list[int] = []
        self._closed: Tensor | None = None

    def __bool__(self) -> bool:
        return self._allowed is not None or bool(self._words) or bool(self._ends)

    def apply(self, logits: Tensor) -> None:
        """Rule tokens out in place, in float32 logits of shape (vocabulary,) on the CPU."""
        if self._allowed is not None:
            if self._closed is None:
                self._closed = torch.ones(logits.shape, dtype=torch.bool)
                self._closed[self._allowed] = False
            logits[self._closed] = _NEVER
        if self._ends and self._tokens < self._min_tokens:
            logits[self._ends] = _NEVER
        if unwanted := self._unwanted():
            kept = logits[unwanted].clone()
            logits[unwanted] = _NEVER
            if not torch.isfinite(logits.max()):
                logits[unwanted] = kept

    def note(self, token: int) -> None:
        """Remember a chosen token."""
        self._tokens += 1
        if self._longest > 1:
            self._last = [*self._last, token][1 - self._longest :]

    def _unwanted(self) -> list[int]:
        """Return the tokens that would complete an unwanted word now."""
        return [word[-1] for word in self._words if len(word) == 1 or self._ends_with(word[:-1])]

    def _ends_with(self, head: Sequence[int]) -> bool:
        return len(self._last) >= len(head) and tuple(self._last[-len(head) :]) == tuple(head)
