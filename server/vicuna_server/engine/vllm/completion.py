"""From a request to the body of vLLM's `POST /v1/completions`.

Source: vLLM 0.32, vllm/entrypoints/openai/completion/protocol.py. Prompts go as token ids. What ends an answer is
decided here: vLLM is told our end tokens and is never asked for its own (`ignore_eos`), nor for stop strings.
"""

from collections.abc import Iterable, Sequence

from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.scope import CacheScope
from vicuna_server.errors import RequestError

__all__ = ["COMPLETIONS_PATH", "check_supported", "generation_body", "probe_body", "scoring_body", "why_off"]

COMPLETIONS_PATH = "/v1/completions"
LEAST_TOP_P = 1e-6
"""vLLM refuses 0, which here is the likeliest token alone; so is this."""
_SEEDS = 2**63
"""Seeds go as their remainder by this: vLLM takes -1 for no seed at all."""


def check_supported(request: GenerationRequest) -> None:
    """Refuse what vLLM cannot do.

    Raises:
        RequestError: 400, naming the field.
    """
    if request.typical_p != 1.0:
        raise RequestError(
            "typical_p: the vllm engine, which serves this model, has no typical sampling; leave the field out, or use "
            "top_p or min_p",
            param="typical_p",
            code="unsupported_by_engine",
        )


def why_off(request: GenerationRequest) -> str:
    """Return why vLLM cannot go on behind tokens that it has as a prompt, a name from `WHY_OFF`; empty: it can."""
    if request.seed is not None and request.temperature > 0:
        return "seed"
    if request.constraint is not None:
        return "format"
    counts = request.presence_penalty or request.frequency_penalty or request.bad_words
    return "counting" if counts else ""


def generation_body(
    request: GenerationRequest,
    prompt: Sequence[int],
    ends: Iterable[int],
    budget: int,
    model: str,
    grammar: str | None = None,
) -> dict[str, object]:
    """Return the body that asks for one answer as a stream.

    Args:
        request: What is asked for.
        prompt: Its token ids, to which those in `request.generated` are added.
        ends: Ids that end the answer, all of them in the vocabulary.
        budget: The most tokens of the whole answer.
        model: The name that vLLM serves the model by.
        grammar: What the answer's text may be, for vLLM's backend "guidance"; None: anything. At the grammar's end that
            backend allows the tokenizer's own end alone, which is one of `ends`.
    """
    ids, known = sorted(ends), len(request.generated)
    body: dict[str, object] = {
        "model": model,
        "prompt": [*prompt, *request.generated],
        "max_tokens": budget - known,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "temperature": request.temperature,
        "top_p": max(request.top_p, LEAST_TOP_P),
        "top_k": request.top_k,
        "min_p": request.min_p,
        "repetition_penalty": request.repetition_penalty,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "ignore_eos": True,
        "stop_token_ids": ids,
        # Besides these ends it also holds back the model's own, which an answer without any end may have within it.
        "min_tokens": max(0, request.min_tokens - known) if ids else 0,
        **_salted(request.scope),
        **_structured(grammar),
    }
    optional: dict[str, object] = {
        "seed": None if request.seed is None else request.seed % _SEEDS,
        "logit_bias": {str(token): bias for token, bias in request.logit_bias} or None,
        "allowed_token_ids": None if request.allowed_token_ids is None else list(request.allowed_token_ids),
        "bad_words": list(request.bad_words) or None,
        "logprobs": request.logprobs,
        "return_tokens_as_token_ids": None if request.logprobs is None else True,
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def scoring_body(prompt: Sequence[int], top: int, scope: CacheScope, model: str) -> dict[str, object]:
    """Return the body that asks for the likelihoods of a prompt's tokens; one token is generated behind them."""
    return {**probe_body(prompt, model), "prompt_logprobs": top, **_salted(scope)}


def probe_body(prompt: Sequence[int], model: str) -> dict[str, object]:
    """Return the body that asks for the likeliest token behind a prompt."""
    return {"model": model, "prompt": list(prompt), "max_tokens": 1, "temperature": 0.0}


def _salted(scope: CacheScope) -> dict[str, object]:
    """Return vLLM's `cache_salt`: requests of equal salts share keys and values, and no others do."""
    return {"cache_salt": scope.salt} if scope.salt else {}


def _structured(grammar: str | None) -> dict[str, object]:
    """Return vLLM's `structured_outputs`, which has one field."""
    return {} if grammar is None else {"structured_outputs": {"grammar": grammar}}
