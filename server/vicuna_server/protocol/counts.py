"""A request's token counts in the form that a model server sends to the gateway.

A JSON object with `usage`, the tokens of prompts and of completions so far, and `final`, whether these are the last
counts. Other fields are ignored. The server may be hostile, so counts are bounded: they cannot overflow a counter.
"""

import json
from typing import NamedTuple, Self

__all__ = ["Counts", "Used"]

_MOST = 2**31 - 1
_MOST_BYTES = 2048


class Used(NamedTuple):
    """Tokens of prompts and of completions."""

    prompt: int = 0
    completion: int = 0

    def plus(self, other: "Used") -> "Used":
        """Return the sum of both."""
        return Used(self.prompt + other.prompt, self.completion + other.completion)

    def grown(self, other: "Used") -> "Used":
        """Return the larger of the two counts, for each kind."""
        return Used(max(self.prompt, other.prompt), max(self.completion, other.completion))


class Counts(NamedTuple):
    """What a request has used so far.

    Attributes:
        used: 0 to 2^31 - 1 tokens each.
        final: Whether the counts do not change any more.
    """

    used: Used
    final: bool

    def written(self) -> bytes:
        """Return the JSON object, in one line."""
        return json.dumps({"usage": self.used, "final": self.final}, separators=(",", ":")).encode()

    @classmethod
    def read(cls, text: bytes) -> Self | None:
        """Return the counts in a JSON object of at most 2 KiB; None where the text is not such an object."""
        try:
            found = json.loads(text.decode()) if len(text) <= _MOST_BYTES else None
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or not isinstance(counts := found.get("usage"), list) or len(counts) != 2:
            return None
        used = Used(*counts)
        return cls(used, found.get("final") is True) if _is_count(used.prompt) and _is_count(used.completion) else None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST
