"""From logits to the next token of each row.

Order and definitions: log probabilities are taken from the raw logits, as OpenAI documents them. Then come logit bias
and presence and frequency penalty (OpenAI's API reference: "logit - count · frequency - [count > 0] · presence",
counted over the answer), repetition penalty (Keskar et al. 2019, as in transformers' RepetitionPenaltyLogitsProcessor:
over prompt and answer), temperature, then top-k, top-p, min-p and typical-p (Meister et al. 2022) in
transformers' order, each over what the one before has left. What may not come is ruled out last before temperature.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.builtin.constraining import Follower
from vicuna_server.engine.builtin.forbidding import Forbidden
from vicuna_server.errors import EngineError

__all__ = ["Choice", "Sampler", "choose_tokens"]

_GREEDY_BELOW = 1e-4
"""Dividing by less than this could overflow; the likeliest token is all that is left then anyway."""
_HEAD = 256
"""Tokens among which top-p is looked for first: sorting a whole vocabulary takes milliseconds."""


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
        self._follower = follower
        self._typical = request.typical_p < 1
        self._filtered = request.top_k > 0 or request.top_p < 1 or request.min_p > 0 or self._typical
        self._shifted = bool(request.logit_bias or request.presence_penalty or request.frequency_penalty)
        self._seen = dict.fromkeys(prompt) if request.repetition_penalty != 1 else None
        self._counts: dict[int, int] = {}
        # What the vocabulary's logits are shifted by, kept up to date token by token; made when its size is known.
        self._shift: Tensor | None = None
        self._penalized: Tensor | None = None

    @property
    def plain(self) -> bool:
        """Whether the likeliest token of the raw logits is the answer."""
        unruled = self._forbidden is None and self._follower is None
        return self.greedy and not self._shifted and self._seen is None and unruled

    @property
    def complete(self) -> bool:
        """Whether nothing may come behind the tokens noted so far."""
        return self._follower is not None and self._follower.complete

    def adjust(self, logits: Tensor) -> None:
        """Apply bias, penalties and what is forbidden in place, to float32 logits of shape (vocabulary,) on the CPU.

        Raises:
            EngineError: No token is left.
        """
        if self._shifted:
            if self._shift is None:
                self._shift = torch.zeros_like(logits)
                for token, bias in self._request.logit_bias:
                    self._shift[token] += bias
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
        if self._follower is not None:
            self._follower.apply(logits)

    def draw(self, probabilities: Tensor) -> int:
        """Draw from probabilities of shape (vocabulary,), float32 on the CPU."""
        if not self._filtered:
            return self._pick(probabilities)
        ordered, order = self._head(probabilities)
        return int(order[self._pick(ordered)])

    def note(self, token: int) -> None:
        """Remember a chosen token."""
        if self._forbidden is not None:
            self._forbidden.note(token)
        if self._follower is not None:
            self._follower.note(token)
        if self._shift is not None:
            first = token not in self._counts
            self._counts[token] = self._counts.get(token, 0) + 1
            self._shift[token] -= self._request.frequency_penalty + (self._request.presence_penalty if first else 0)
        if self._penalized is not None:
            self._penalized[token] = True

    def _pick(self, weights: Tensor) -> int:
        """Draw an index in proportion to its weight: where a uniform number falls in the running sum."""
        sums = weights.cumsum(0, dtype=torch.float64)
        index = int(torch.searchsorted(sums, self._random.random() * float(sums[-1]), right=True))
        return min(index, len(weights) - 1)

    def _head(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the filters leave, likeliest first, with the tokens."""
        size = len(probabilities)
        wanted = min(size, self._request.top_k or size)
        ordered, order = probabilities.topk(wanted if self._request.top_k else min(wanted, _HEAD))
        enough = len(ordered) == wanted or float(ordered.sum()) >= self._request.top_p or self._below_min_p(ordered)
        if not enough:
            ordered, order = probabilities.topk(wanted)
        if self._request.top_k:
            ordered = ordered / ordered.sum()
        # A token stays while those before it have not reached top_p; the first always stays.
        kept = ordered.cumsum(0) - ordered < self._request.top_p if self._request.top_p < 1 else ordered > -1
        kept[0] = True
        kept &= ordered >= self._request.min_p * ordered[0]
        ordered, order = ordered[kept], order[kept]
        if self._typical:
            typical = _most_typical(ordered / ordered.sum(), self._request.typical_p)
            ordered, order = ordered[typical], order[typical]
        return ordered, order

    def _below_min_p(self, ordered: Tensor) -> bool:
        return bool(ordered[-1] < self._request.min_p * ordered[0])


def _most_typical(probabilities: Tensor, mass: float) -> Tensor:
    """Return which tokens are kept: those whose surprise is nearest to the mean surprise, until they reach `mass`.

    Source: Meister et al. 2022, "Locally Typical Sampling"; ties as in transformers' TypicalLogitsWarper.
    """
    surprise = -probabilities.log()
    entropy = (probabilities * surprise).nan_to_num(0.0).sum()
    distance = (surprise - entropy).abs()
    ordered, order = distance.sort()
    last = int((probabilities[order].cumsum(0) < mass).sum().clamp(max=len(order) - 1))
    return distance <= ordered[last]


def _seed(seed: int | None) -> int | str | None:
    """Return what Python's generator is seeded with: of a number it would drop the sign."""
    return str(seed) if seed is not None and seed < 0 else seed


def choose_tokens(logits: Tensor, samplers: list[Sampler]) -> list[Choice | EngineError]:
    """Return one token per row, or the failure of a row whose logits are not finite.

    Args:
        logits: Shape (rows, vocabulary).
        samplers: One per row.
    """
    best, likeliest = logits.max(dim=-1)  # NaN and infinities show in the maximum
    tokens: list[int] = likeliest.tolist()
    finite = [math.isfinite(peak) for peak in best.tolist()]
    rows = [row for row, sampler in enumerate(samplers) if finite[row] and not sampler.plain]
    drawn: dict[int, int | EngineError] = dict(zip(rows, _sample(logits, rows, samplers), strict=True))
    choices: list[Choice | EngineError] = []
    for row, sampler in enumerate(samplers):
        token = drawn.get(row, tokens[row])
        if isinstance(token, EngineError):
            choices.append(token)
        elif not finite[row]:
            choices.append(
                EngineError(
                    "NonFiniteLogits",
                    "the model computed logits that are not finite numbers; try --dtype float32, or check its weights",
                )
            )
        else:
            choices.append(_choice(logits[row], token, sampler))
    return choices


def _choice(logits: Tensor, token: int, sampler: Sampler) -> Choice:
    if sampler.logprobs is None:
        return Choice(token, last=sampler.complete)
    return _with_logprobs(logits, token, sampler)


def _sample(logits: Tensor, rows: list[int], samplers: list[Sampler]) -> list[int | EngineError]:
    """Return the tokens of the rows for which the likeliest is not simply the answer, or why there is none."""
    if not rows:
        return []
    chosen = [samplers[row] for row in rows]
    values = logits[torch.tensor(rows, device=logits.device)].float().cpu()
    failures = [_adjusted(sampler, values[row]) for row, sampler in enumerate(chosen)]
    temperatures = torch.tensor([1.0 if sampler.greedy else sampler.temperature for sampler in chosen])
    values /= temperatures[:, None]
    probabilities = values.softmax(dim=-1)
    tokens: list[int | EngineError] = []
    for row, (sampler, failure) in enumerate(zip(chosen, failures, strict=True)):
        if failure is not None:
            tokens.append(failure)
            continue
        token = int(values[row].argmax()) if sampler.greedy else sampler.draw(probabilities[row])
        sampler.note(token)
        tokens.append(token)
    return tokens


def _adjusted(sampler: Sampler, logits: Tensor) -> EngineError | None:
    """Adjust a row in place; return why there is no token left, if there is none."""
    try:
        sampler.adjust(logits)
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
