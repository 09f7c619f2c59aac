"""vLLM's `prompt_logprobs` as the engine's `PromptToken`s."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vicuna_server.engine import PromptToken, TopLogprob
from vicuna_server.errors import EngineError

__all__ = ["prompt_tokens"]


def prompt_tokens(
    answer: Mapping[str, Any], prompt: Sequence[int], top: int, text: Callable[[int], bytes]
) -> list[PromptToken]:
    """Return a prompt's tokens with their likelihoods.

    Args:
        answer: vLLM's whole answer, with the likelihoods as `{token id: {logprob, rank}}` per place.
        prompt: The ids that were asked about.
        top: How many of the likeliest are told beside each.
        text: A token's bytes.

    Raises:
        EngineError: `EngineIncompatible`.
    """
    try:
        places = answer["choices"][0]["prompt_logprobs"]
        if len(places) != len(prompt):
            raise ValueError(f"{len(places)} places for {len(prompt)} tokens")
        return [_told(token, place, top, text) for token, place in zip(prompt, places, strict=True)]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EngineError(
            "EngineIncompatible",
            f"the vllm engine's log probabilities of a prompt cannot be read ({error!r}); use the vLLM version that "
            "the docs name",
        ) from error


def _told(token: int, place: Mapping[str, Any] | None, top: int, text: Callable[[int], bytes]) -> PromptToken:
    if place is None:
        return PromptToken(token, text(token))
    own = place[str(token)]
    ranked = sorted((int(one["rank"]), int(ident), float(one["logprob"])) for ident, one in place.items())
    likeliest = tuple(TopLogprob(ident, text(ident), logprob) for rank, ident, logprob in ranked if rank <= top)
    return PromptToken(token, text(token), float(own["logprob"]), int(own["rank"]), likeliest[:top])
