"""Log probabilities of a prompt's own tokens, each behind those before it, as evaluation programs ask for them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vicuna_server.engine import PromptToken, TopLogprob
from vicuna_server.engine.vocabulary import Vocabulary

__all__ = ["SCORED_AT_ONCE", "Score", "score_tokens", "with_text"]

SCORED_AT_ONCE = 128
"""Tokens whose logits are held at once: of a vocabulary of 128 000 they take 64 MiB in float32."""


class Score(NamedTuple):
    """One token of a prompt.

    Attributes:
        logprob: Its natural log probability behind the tokens before it, from the raw logits.
        rank: Its place among all tokens, 1 for the likeliest.
        top: The likeliest tokens there with their log probabilities, likeliest first.
    """

    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...]


def score_tokens(logits: Tensor, targets: Sequence[int], top: int) -> list[Score]:
    """Return the scores of tokens.

    Args:
        logits: Shape (targets, vocabulary): those before each of them.
        targets: The tokens.
        top: How many of the likeliest are reported.
    """
    values = logits.float().log_softmax(dim=-1)
    wanted = torch.tensor(targets, device=values.device)[:, None]
    own = values.gather(1, wanted)
    ranks = ((values > own).sum(dim=-1) + 1).tolist()
    likeliest: list[tuple[tuple[int, float], ...]] = [()] * len(targets)
    if top:
        best = values.topk(min(top, values.shape[-1]), dim=-1)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        likeliest = [tuple(zip(ids, logprobs, strict=True)) for ids, logprobs in pairs]
    return [Score(*each) for each in zip(own[:, 0].tolist(), ranks, likeliest, strict=True)]


def with_text(vocabulary: Vocabulary, ids: Sequence[int], scores: Sequence[Score]) -> list[PromptToken]:
    """Return a prompt's tokens with their texts; `scores` are those of the second and all behind it."""
    text = vocabulary.token_bytes
    tokens = [PromptToken(ids[0], text(ids[0]))]
    for token, score in zip(ids[1:], scores, strict=True):
        top = tuple(TopLogprob(one, text(one), logprob) for one, logprob in score.top)
        tokens.append(PromptToken(token, text(token), score.logprob, score.rank, top))
    return tokens
