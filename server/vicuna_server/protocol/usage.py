"""Token counts and the small values that every response carries."""

import time

__all__ = ["now", "usage"]


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return OpenAI's `usage`: the prompt's tokens with BOS, and all generated ones, a last EOS too."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def now() -> int:
    """Return the `created` field: seconds since the epoch."""
    return int(time.time())
