"""`/v1/completions`: plain text or token ids in, plain text out, no template.

Source: OpenAI's API reference, "Completions" (legacy).
"""

from collections.abc import Sequence
from typing import Literal, NotRequired, Self

from pydantic import Field, model_validator
from typing_extensions import TypedDict

from vicuna_server.protocol.body import Integer
from vicuna_server.protocol.envelope import Envelope, PromptLogprob, Usage
from vicuna_server.protocol.inputs import TextsOrIds, separate
from vicuna_server.protocol.sampling import SamplingFields

__all__ = [
    "Completion",
    "CompletionChoice",
    "CompletionLogprobs",
    "CompletionRequest",
    "completion",
    "completion_choice",
]

DEFAULT_MAX_TOKENS = 16
"""OpenAI's default for this route."""
MAX_CHOICES_PER_REQUEST = 64
"""Prompts times choices of one request."""
MAX_LOGPROBS = 20


class CompletionRequest(SamplingFields):
    """The body of `POST /v1/completions`."""

    prompt: TextsOrIds
    max_tokens: Integer | None = Field(default=DEFAULT_MAX_TOKENS, ge=0, lt=2**31)
    echo: bool | None = None
    suffix: str | None = None
    best_of: Integer | None = Field(default=None, ge=1)
    logprobs: Integer | None = Field(default=None, ge=0, le=MAX_LOGPROBS)

    @model_validator(mode="after")
    def _refuse_unsupported_features(self) -> Self:
        if self.suffix:
            raise ValueError("suffix: not supported, this model only continues text; leave it out")
        if self.best_of is not None and self.best_of != self.choices:
            raise ValueError("best_of: not supported, all choices are returned; leave it out, or set it to n")
        if self.max_tokens == 0 and not self.echo and self.prompt_logprobs is None:
            raise ValueError(
                "max_tokens: 0 needs echo or prompt_logprobs, else the response is empty; set max_tokens to 1 or more"
            )
        if (count := len(self.prompts) * self.choices) > MAX_CHOICES_PER_REQUEST:
            raise ValueError(
                f"prompt: prompts times n is {count}, but a request may have at most {MAX_CHOICES_PER_REQUEST}; "
                "send several requests"
            )
        return self

    @property
    def scored(self) -> int | None:
        """How many alternatives to report beside each prompt token; None: the prompt is not scored."""
        echoed = self.logprobs if self.echo else None
        # Where nothing is generated, scoring alone computes the prompt.
        counted = 0 if self.max_tokens == 0 else None
        return max((count for count in (echoed, self.prompt_logprobs, counted) if count is not None), default=None)

    @property
    def prompts(self) -> list[str | tuple[int, ...]]:
        """The prompts, each as text or as token ids."""
        return separate(self.prompt)


class CompletionLogprobs(TypedDict):
    """The tokens of a choice or chunk; `text_offset`: where each begins in `text`, in characters."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(TypedDict):
    """One choice, or a part of it in a stream."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None
    prompt_logprobs: NotRequired[list[dict[str, PromptLogprob] | None]]


class Completion(TypedDict):
    """A whole response, or one event of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: NotRequired[Usage | None]


def completion_choice(
    index: int, text: str, finish_reason: str | None = None, logprobs: CompletionLogprobs | None = None
) -> CompletionChoice:
    """Return one choice or a part of it."""
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


def completion(envelope: Envelope, choices: Sequence[CompletionChoice]) -> Completion:
    """Return a response or an event, without its usage."""
    return {
        "id": envelope.ident,
        "object": "text_completion",
        "created": envelope.created,
        "model": envelope.model,
        "choices": list(choices),
    }
