"""How the scripted engine behaves, as environment variables say it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from vicuna_server.errors import UsageError

__all__ = ["ScriptedSettings"]


@dataclass(frozen=True)
class ScriptedSettings:
    """How the scripted engine behaves.

    Attributes:
        tokens: Length of an answer, before `max_tokens` or a stop string ends it.
        tokens_per_second: Speed of each stream; 0: as fast as it goes.
        load_seconds: How long loading pretends to take.
        context_length: Limit of prompt and answer together, in words.
    """

    tokens: int = 16
    tokens_per_second: float = 0.0
    load_seconds: float = 0.0
    context_length: int = 4096

    @classmethod
    def from_env(cls, env: Mapping[str, str], context_length: int | None = None) -> Self:
        """Read `VICUNA_SCRIPTED_TOKENS`, `…_TOKENS_PER_SECOND` and `…_LOAD_SECONDS`.

        Raises:
            UsageError: A value is not a number or is negative.
        """
        return cls(
            tokens=int(_number(env, "VICUNA_SCRIPTED_TOKENS", cls.tokens)),
            tokens_per_second=_number(env, "VICUNA_SCRIPTED_TOKENS_PER_SECOND", cls.tokens_per_second),
            load_seconds=_number(env, "VICUNA_SCRIPTED_LOAD_SECONDS", cls.load_seconds),
            context_length=context_length or cls.context_length,
        )


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    raw = env.get(name)
    if raw is None or raw == "":
        return default
    try:
        value = float(raw)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"{name} must be a number that is not negative, got {raw!r}")
    return value
