"""The fields that every response has: id, time, model and token counts."""

import secrets
import time
from dataclasses import dataclass, field

from typing_extensions import TypedDict

__all__ = ["Envelope", "PromptLogprob", "PromptTokensDetails", "Usage", "new_ident", "usage"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fields that a response, or all chunks of a stream, have in common.

    Attributes:
        ident: Value of `id`, the same in all chunks.
        model: The served model's name.
        created: Seconds since the epoch.
    """

    ident: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))


def new_ident(prefix: str) -> str:
    """Return a new `id` in OpenAI's form; `prefix` is chatcmpl or cmpl."""
    return f"{prefix}-{secrets.token_hex(12)}"


class PromptLogprob(TypedDict):
    """vLLM's form of one token at a position of the prompt; `rank` 1 is the likeliest."""

    logprob: float
    rank: int
    decoded_token: str


class PromptTokensDetails(TypedDict):
    """How many of the prompt's tokens came from the prefix cache."""

    cached_tokens: int


class Usage(TypedDict):
    """OpenAI's `usage`."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> Usage:
    """Return the counts: each prompt's tokens once, with BOS, and all generated tokens, with a last EOS."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }
