"""From logits to the next token of each row."""

import math

import torch
from torch import Tensor

from vicuna_server.engine.base import GenerationRequest
from vicuna_server.errors import EngineError

__all__ = ["Sampler", "choose_tokens"]

_GREEDY_BELOW = 1e-4
"""Dividing by less than this could overflow; the likeliest token is all that is left then anyway."""


class Sampler:
    """How one request draws its tokens; its random numbers depend on nothing but its own seed and steps."""

    def __init__(self, request: GenerationRequest) -> None:
        self.greedy = request.temperature < _GREEDY_BELOW
        self._temperature = request.temperature
        self._top_p = request.top_p
        self._random = torch.Generator()
        if request.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(request.seed)

    def draw(self, logits: Tensor) -> int:
        """Draw from float32 logits of shape (vocabulary,) on the CPU."""
        probabilities = torch.softmax(logits / self._temperature, dim=-1)
        if self._top_p >= 1:
            return int(torch.multinomial(probabilities, 1, generator=self._random))
        ordered, order = probabilities.sort(descending=True, stable=True)
        # A token stays while those before it have not reached top_p; the first always stays.
        ordered[ordered.cumsum(0) - ordered >= self._top_p] = 0
        return int(order[torch.multinomial(ordered, 1, generator=self._random)])


def choose_tokens(logits: Tensor, samplers: list[Sampler]) -> list[int | EngineError]:
    """Return one token per row, or the failure of a row whose logits are not finite.

    Args:
        logits: Shape (rows, vocabulary).
        samplers: One per row.
    """
    best, likeliest = logits.max(dim=-1)  # NaN and infinities show in the maximum
    tokens: list[int | EngineError] = []
    for row, (peak, token) in enumerate(zip(best.tolist(), likeliest.tolist(), strict=True)):
        if not math.isfinite(peak):
            tokens.append(EngineError("NonFiniteLogits", "the model computed logits that are not finite numbers"))
        elif samplers[row].greedy:
            tokens.append(token)
        else:
            tokens.append(samplers[row].draw(logits[row].float().cpu()))
    return tokens
