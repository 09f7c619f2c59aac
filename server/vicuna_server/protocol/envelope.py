"""What every response carries: identity, time, model and token counts."""

import time
from dataclasses import dataclass, field

from typing_extensions import TypedDict

__all__ = ["Envelope", "PromptLogprob", "PromptTokensDetails", "Usage", "usage"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fields at the head of a response and of all chunks of a stream.

    Attributes:
        ident: Value of `id`.
        model: The served model's name.
        created: Seconds since the epoch.
    """

    ident: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))


class PromptLogprob(TypedDict):
    """What vLLM tells of a token at a place of the prompt; `rank` 1 is the likeliest."""

    logprob: float
    rank: int
    decoded_token: str


class PromptTokensDetails(TypedDict):
    """How many of the prompt's tokens were not computed again."""

    cached_tokens: int


class Usage(TypedDict):
    """OpenAI's `usage`."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> Usage:
    """Return the counts: each prompt's tokens once, BOS included, and all generated ones, a last EOS too."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }
