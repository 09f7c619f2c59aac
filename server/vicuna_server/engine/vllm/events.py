"""vLLM's stream of server-sent events, read to token ids.

The lines are cut at line feeds alone: a token's text may hold other letters that Unicode calls ends of lines.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json

from vicuna_server.errors import EngineError

__all__ = ["Event", "EventReader", "Likelihood", "read_event"]

_DATA = b"data:"
_DONE = b"[DONE]"
_TOKEN = "token_id:"  # noqa: S105  # of text


class Likelihood(NamedTuple):
    """A token's natural log probability, and those of the likeliest at its place, likeliest first."""

    logprob: float
    top: tuple[tuple[int, float], ...]


class Event(NamedTuple):
    """What one event says.

    Attributes:
        tokens: Ids of the next tokens.
        likelihoods: One per token where they were asked for, else none.
        finish_reason: Why vLLM ended the answer; None: it goes on.
        cached_tokens: Tokens of the prompt that were not computed again; None: not told with this event.
        error: vLLM's error object.
    """

    tokens: tuple[int, ...] = ()
    likelihoods: tuple[Likelihood, ...] = ()
    finish_reason: str | None = None
    cached_tokens: int | None = None
    error: Mapping[str, Any] | None = None


class EventReader:
    """Reads the events of one response's body, up to `[DONE]`.

    Args:
        take: Called with each event; returns whether no more is wanted.
    """

    def __init__(self, take: Callable[[Event], bool]) -> None:
        self._take = take
        self._held = b""

    def read(self, piece: bytes) -> bool:
        """Take the next piece of the body; return whether no more is wanted.

        Raises:
            EngineError: `EngineIncompatible`; whatever `take` raises.
        """
        *lines, self._held = (self._held + piece).split(b"\n")
        for line in lines:
            if not line.startswith(_DATA):
                continue  # an empty line, or a comment that keeps the connection alive
            data = line[len(_DATA) :].strip()
            if data == _DONE or self._take(read_event(data)):
                return True
        return False


def read_event(data: bytes) -> Event:
    """Read the JSON of one event.

    Raises:
        EngineError: `EngineIncompatible`: it is not as vLLM 0.32 writes it.
    """
    try:
        said = from_json(data)
        if "error" in said:
            return Event(error=dict(said["error"]))
        cached = _cached(said.get("usage"))
        if not said["choices"]:
            return Event(cached_tokens=cached)
        (choice,) = said["choices"]
        tokens = tuple(choice["token_ids"] or ())
        likelihoods = _likelihoods(choice.get("logprobs"))
        if likelihoods and len(likelihoods) != len(tokens):
            raise ValueError("as many tokens as log probabilities")
        return Event(tokens, likelihoods, choice.get("finish_reason"), cached)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EngineError(
            "EngineIncompatible",
            f"an event of the vllm engine cannot be read ({error!r}); use the vLLM version that the docs name",
        ) from error


def _cached(usage: Mapping[str, Any] | None) -> int | None:
    details = (usage or {}).get("prompt_tokens_details")
    return None if details is None else int(details.get("cached_tokens") or 0)


def _likelihoods(logprobs: Mapping[str, Any] | None) -> tuple[Likelihood, ...]:
    if logprobs is None:
        return ()
    pairs = zip(logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True)
    return tuple(Likelihood(float(own), _top(top or {})) for own, top in pairs)


def _top(top: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    """Return the alternatives, likeliest first; among them is the token itself, wherever it stands."""
    named = ((int(name.removeprefix(_TOKEN)), float(logprob)) for name, logprob in top.items())
    return tuple(sorted(named, key=lambda pair: -pair[1]))
