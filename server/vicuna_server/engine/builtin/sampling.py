"""From logits to the next token of each row.

Order and definitions: log probabilities are taken from the raw logits, as OpenAI documents them. Then come logit bias
and presence and frequency penalty (OpenAI's API reference: "logit - count · frequency - [count > 0] · presence",
counted over the answer), repetition penalty (Keskar et al. 2019, as in transformers' RepetitionPenaltyLogitsProcessor:
over prompt and answer), temperature, then what `filtering` leaves. What may not come is ruled out last before
temperature: a grammar's mask behind all else.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.builtin.constraining import NO_MASKS, Follower, Masks
from vicuna_server.engine.builtin.filtering import filtered, filters
from vicuna_server.engine.builtin.forbidding import Forbidden
from vicuna_server.errors import EngineError

__all__ = ["Choice", "Sampler", "choose_tokens"]

_GREEDY_BELOW = 1e-4
"""Dividing by less than this could overflow; the likeliest token is all that is left then anyway."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token, with its log probability and those of the likeliest if they were asked for.

    Attributes:
        last: Whether the answer is complete with it.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    last: bool = False


class Sampler:
    """How one request draws its tokens; its random numbers depend on nothing but its own seed and steps.

    Args:
        request: What is asked for.
        prompt: Ids of the prompt, for the repetition penalty.
        forbidden: What may not come; of this request alone.
        follower: Of the grammar that it keeps to; None: there is none.
    """

    def __init__(
        self,
        request: GenerationRequest,
        prompt: Iterable[int] = (),
        forbidden: Forbidden | None = None,
        follower: Follower | None = None,
    ) -> None:
        self.greedy = request.temperature < _GREEDY_BELOW
        self.temperature = request.temperature
        self.logprobs = request.logprobs
        self._request = request
        self._random = random.Random(_seed(request.seed))  # noqa: S311  # draws of words, not of secrets
        self._forbidden = forbidden or None
        self.follower = follower
        self._filtered = filters(request)
        self._shifted = bool(request.logit_bias or request.presence_penalty or request.frequency_penalty)
        self._seen = dict.fromkeys(prompt) if request.repetition_penalty != 1 else None
        self._counts: dict[int, int] = {}
        self._recalled: list[int] = []
        # What the vocabulary's logits are shifted by, kept up to date token by token; made when its size is known.
        self._shift: Tensor | None = None
        self._penalized: Tensor | None = None

    @property
    def unchanged(self) -> bool:
        """Whether a row's logits are the model's own, but for a grammar's mask."""
        return not self._shifted and self._seen is None and self._forbidden is None

    @property
    def complete(self) -> bool:
        """Whether nothing may come behind the tokens noted so far."""
        return self.follower is not None and self.follower.complete

    def adjust(self, logits: Tensor) -> None:
        """Apply bias, penalties and what is forbidden in place, to float32 logits of shape (vocabulary,) on the CPU."""
        if self._shifted:
            if self._shift is None:
                self._shift = torch.zeros_like(logits)
                for token, bias in self._request.logit_bias:
                    self._shift[token] += bias
                for token in self._recalled:
                    self._penalize(self._shift, token)
            logits += self._shift
        if self._seen is not None:
            if self._penalized is None:
                self._penalized = torch.zeros(logits.shape, dtype=torch.bool)
                self._penalized[list(self._seen)] = True
            penalty = self._request.repetition_penalty
            changed = torch.where(logits > 0, logits / penalty, logits * penalty)
            torch.where(self._penalized, changed, logits, out=logits)
        if self._forbidden is not None:
            self._forbidden.apply(logits)

    def draw(self, probabilities: Tensor) -> int:
        """Draw from probabilities of shape (vocabulary,), float32 on the CPU."""
        if not self._filtered:
            return self._pick(probabilities)
        ordered, order = filtered(probabilities, self._request)
        return int(order[self._pick(ordered)])

    def note(self, token: int) -> None:
        """Remember a chosen token."""
        if self._forbidden is not None:
            self._forbidden.note(token)
        if self.follower is not None:
            self.follower.note(token)
        if self._shift is not None:
            self._penalize(self._shift, token)
        if self._penalized is not None:
            self._penalized[token] = True

    def recall(self, token: int) -> None:
        """Note a token that another server has chosen, before any is chosen here; it takes a random number as there."""
        if not self.greedy:
            self._random.random()
        if self._seen is not None:
            self._seen[token] = None
        self._recalled.append(token)
        self.note(token)

    def _penalize(self, shift: Tensor, token: int) -> None:
        first = token not in self._counts
        self._counts[token] = self._counts.get(token, 0) + 1
        shift[token] -= self._request.frequency_penalty + (self._request.presence_penalty if first else 0)

    def _pick(self, weights: Tensor) -> int:
        """Draw an index in proportion to its weight: where a uniform number falls in the running sum."""
        sums = weights.cumsum(0, dtype=torch.float64)
        index = int(torch.searchsorted(sums, self._random.random() * float(sums[-1]), right=True))
        return min(index, len(weights) - 1)


def _seed(seed: int | None) -> int | str | None:
    """Return what Python's generator is seeded with: of a number it would drop the sign."""
    return str(seed) if seed is not None and seed < 0 else seed


def choose_tokens(logits: Tensor, samplers: list[Sampler], masks: Masks = NO_MASKS) -> list[Choice | EngineError]:
    """Return one token per row, or why there is none: its logits are not finite, or its grammar goes no further.

    Args:
        logits: Shape (rows, vocabulary).
        samplers: One per row.
        masks: Of the rows with a follower.
    """
    best, likeliest = logits.max(dim=-1)  # NaN and infinities show in the maximum
    chosen: dict[int, int | EngineError] = {}
    left: list[int] = []
    for row, (peak, token) in enumerate(zip(best.tolist(), likeliest.tolist(), strict=True)):
        if not math.isfinite(peak):
            chosen[row] = _not_finite()
        elif samplers[row].greedy and samplers[row].unchanged and masks.allows(row, token):
            chosen[row] = token  # what nearly every greedy row comes to, and needs no look at its other tokens
        else:
            left.append(row)
    if left:
        chosen |= zip(left, _sample(logits, left, samplers, masks), strict=True)
    return [_choice(logits[row], chosen[row], sampler) for row, sampler in enumerate(samplers)]


def _not_finite() -> EngineError:
    return EngineError(
        "NonFiniteLogits",
        "the model computed logits that are not finite numbers; try --dtype float32, or check its weights",
    )


def _choice(logits: Tensor, token: int | EngineError, sampler: Sampler) -> Choice | EngineError:
    if isinstance(token, EngineError):
        return token
    sampler.note(token)
    if sampler.logprobs is None:
        return Choice(token, last=sampler.complete)
    return _with_logprobs(logits, token, sampler)


def _sample(logits: Tensor, rows: list[int], samplers: list[Sampler], masks: Masks) -> list[int | EngineError]:
    """Return the tokens of the rows for which the likeliest is not simply the answer, or why there is none."""
    chosen = [samplers[row] for row in rows]
    values = logits[torch.tensor(rows, device=logits.device)].float().cpu()
    failures = [_adjusted(samplers[row], row, values[place], masks) for place, row in enumerate(rows)]
    probabilities = values
    if not all(sampler.greedy for sampler in chosen):
        temperatures = torch.tensor([1.0 if sampler.greedy else sampler.temperature for sampler in chosen])
        probabilities = (values / temperatures[:, None]).softmax(dim=-1)
    return [
        failure or (int(values[place].argmax()) if sampler.greedy else sampler.draw(probabilities[place]))
        for place, (sampler, failure) in enumerate(zip(chosen, failures, strict=True))
    ]


def _adjusted(sampler: Sampler, row: int, logits: Tensor, masks: Masks) -> EngineError | None:
    """Adjust a row in place; return why there is no token left, if there is none."""
    sampler.adjust(logits)
    try:
        masks.apply(row, logits)
    except EngineError as error:
        return error
    return None


def _with_logprobs(logits: Tensor, token: int, sampler: Sampler) -> Choice:
    count = sampler.logprobs or 0
    values = logits.float().log_softmax(dim=-1)
    top: tuple[tuple[int, float], ...] = ()
    if count:
        likeliest = values.topk(min(count, len(values)))
        top = tuple(zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True))
    return Choice(token, float(values[token]), top, sampler.complete)
