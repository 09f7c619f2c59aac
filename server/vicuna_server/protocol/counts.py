"""What a server tells the gateway of a request's tokens, in the one form that both know.

A JSON object of which `usage` is read, tokens of prompts and of answers so far, and `final`: they grow no more.
Whatever else is in it is left alone. The server can be a stranger: it can neither overflow a counter nor take anything
back.
"""

import json
from typing import NamedTuple, Self

__all__ = ["Counts", "Used"]

_MOST = 2**31 - 1
_MOST_BYTES = 2048


class Used(NamedTuple):
    """Tokens of prompts and of answers."""

    prompt: int = 0
    completion: int = 0

    def plus(self, other: "Used") -> "Used":
        """Return both together."""
        return Used(self.prompt + other.prompt, self.completion + other.completion)

    def grown(self, other: "Used") -> "Used":
        """Return the larger one of each."""
        return Used(max(self.prompt, other.prompt), max(self.completion, other.completion))


class Counts(NamedTuple):
    """What a request has used so far.

    Attributes:
        used: 0 to 2^31 - 1 each.
        final: they grow no more.
    """

    used: Used
    final: bool

    def written(self) -> bytes:
        """Return the JSON object, in one line."""
        return json.dumps({"usage": self.used, "final": self.final}, separators=(",", ":")).encode()

    @classmethod
    def read(cls, text: bytes) -> Self | None:
        """Return what a JSON object of at most 2 KiB says; None where it says nothing of the kind."""
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
