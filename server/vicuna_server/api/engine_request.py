"""A request's fields in the form that the engine takes."""

from typing import Any

from vicuna_server.constraints import Constraint
from vicuna_server.engine import CacheScope, GenerationRequest, PreparedPrompt
from vicuna_server.protocol.sampling import SamplingFields

__all__ = ["engine_request"]

_SAME_NAME = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "min_tokens",
)
_SEQUENCES = ("stop_token_ids", "allowed_token_ids", "bad_words")


def engine_request(
    body: SamplingFields,
    prompt: PreparedPrompt,
    choice: int,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    time_limit: float,
    ceiling: int | None,
    scope: CacheScope,
    constraint: Constraint | None = None,
) -> GenerationRequest:
    """Return what the engine is to generate for one choice of one prompt.

    Args:
        body: The request.
        prompt: The encoded prompt.
        choice: Number of the choice among those of its prompt, from 0.
        max_tokens: The request's limit in tokens; None: up to the end of the context.
        logprobs: Alternatives reported beside each token; None: no log probabilities.
        time_limit: Seconds after which the completion ends.
        ceiling: The server's own limit in tokens, by the size of the response; None: no such limit.
        scope: Whose keys and values in the cache may be used.
        constraint: What the completion's text must be; None: anything.
    """
    return GenerationRequest(
        prompt=prompt,
        max_tokens=max_tokens,
        top_k=max(0, body.top_k or 0),
        logit_bias=body.biases,
        logprobs=logprobs,
        stop=body.stops,
        include_stop=bool(body.include_stop_str_in_output),
        ignore_eos=bool(body.ignore_eos),
        skip_special_tokens=body.skip_special_tokens is not False,
        # Choices must differ from each other, and a repeated request must give the same choices.
        seed=None if body.seed is None else body.seed + choice,
        time_limit=time_limit,
        ceiling=ceiling,
        scope=scope,
        constraint=constraint,
        **_fields_of_the_same_name(body),
    )


def _fields_of_the_same_name(body: SamplingFields) -> dict[str, Any]:
    """Return the fields that the request sets and that the engine's request has by the same name and default."""
    single = {name: value for name in _SAME_NAME if (value := getattr(body, name)) is not None}
    sequences = {name: tuple(value) for name in _SEQUENCES if (value := getattr(body, name)) is not None}
    return {**single, **sequences}
