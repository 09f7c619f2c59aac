"""`/v1/completions`: plain text in, plain text out, no template.

Source: OpenAI's API reference, "Completions" (legacy).
"""

from typing import Self

from pydantic import Field, field_validator, model_validator

from vicuna_server.protocol.sampling import SamplingFields
from vicuna_server.protocol.usage import usage

__all__ = ["CompletionRequest", "completion_chunk", "completion_response", "completion_usage_chunk"]

DEFAULT_MAX_TOKENS = 16
"""OpenAI's default for this route."""


class CompletionRequest(SamplingFields):
    """The body of `POST /v1/completions`."""

    prompt: str
    max_tokens: int | None = Field(default=DEFAULT_MAX_TOKENS, ge=1)
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = Field(default=None, ge=1)
    logprobs: int | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_prompt(cls, value: object) -> object:
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
            return value[0]
        if isinstance(value, list):
            raise ValueError("must be one string; send one request per prompt")
        return value

    @model_validator(mode="after")
    def _refuse_unsupported_features(self) -> Self:
        for name in ("echo", "suffix", "logprobs"):
            if getattr(self, name):
                raise ValueError(f"{name}: not supported by this server, leave it out")
        if self.best_of is not None and self.best_of > 1:
            raise ValueError("best_of: this server gives one choice per request, leave best_of out")
        return self


def completion_response(
    ident: str, created: int, model: str, text: str, finish_reason: str, prompt_tokens: int, tokens: int
) -> dict[str, object]:
    """Return the whole answer of a request without streaming."""
    return {
        **completion_chunk(ident, created, model, text, finish_reason),
        "usage": usage(prompt_tokens, tokens),
    }


def completion_chunk(
    ident: str, created: int, model: str, text: str, finish_reason: str | None = None
) -> dict[str, object]:
    """Return one streamed chunk."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
    return {"id": ident, "object": "text_completion", "created": created, "model": model, "choices": [choice]}


def completion_usage_chunk(ident: str, created: int, model: str, prompt_tokens: int, tokens: int) -> dict[str, object]:
    """Return the last chunk of a stream with `include_usage`."""
    return {
        **completion_chunk(ident, created, model, ""),
        "choices": [],
        "usage": usage(prompt_tokens, tokens),
    }
