"""The request fields that chat and plain completions share."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from vicuna_server.constraints import Constraint, ToolCalls, allows_any_text
from vicuna_server.errors import RequestError
from vicuna_server.protocol.body import Integer, ModelName, RequestBody, RequestPart
from vicuna_server.protocol.inputs import TokenId
from vicuna_server.protocol.structured import StructuredFields

__all__ = ["MAX_CHOICES", "MAX_STOP_LENGTH", "SamplingFields", "StreamOptions"]

MAX_STOP_STRINGS = 64
"""OpenAI takes 4, evaluation harnesses send more."""
MAX_STOP_LENGTH = 256
MAX_CHOICES = 16
MAX_BIASES = 1024
MAX_BAD_WORDS = 128
MAX_PROMPT_LOGPROBS = 20
MAX_TOKEN_IDS = 2**18
"""More than any known vocabulary has."""


StopString = Annotated[str, Field(max_length=MAX_STOP_LENGTH)]
BadWord = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]
TokenIds = Annotated[list[TokenId], Field(max_length=MAX_TOKEN_IDS, fail_fast=True)]
BiasKey = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]


class StreamOptions(RequestPart):
    """`stream_options` of OpenAI."""

    include_usage: bool | None = None


class SamplingFields(StructuredFields, RequestBody):
    """Fields of every generation request: OpenAI's, and further ones of vLLM and transformers by their names."""

    alternatives_field: ClassVar[str] = "logprobs"
    """The field that asks for alternatives beside each token."""

    model: ModelName
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: Integer | None = Field(default=None, ge=-1, lt=2**31, description="0 or -1: all tokens")
    min_p: float | None = Field(default=None, ge=0, le=1)
    typical_p: float | None = Field(default=None, gt=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[BiasKey, Bias] | None = Field(default=None, max_length=MAX_BIASES)
    max_tokens: Integer | None = Field(default=None, ge=1, lt=2**31)
    stop: StopString | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS, fail_fast=True)] | None = None
    stop_token_ids: TokenIds | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: Integer | None = Field(default=None, ge=0, lt=2**31)
    allowed_token_ids: TokenIds | None = None
    bad_words: Annotated[list[BadWord], Field(max_length=MAX_BAD_WORDS, fail_fast=True)] | None = None
    skip_special_tokens: bool | None = None
    prompt_logprobs: Integer | None = Field(default=None, ge=0, le=MAX_PROMPT_LOGPROBS)
    seed: Integer | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: Integer | None = Field(default=None, ge=1, le=MAX_CHOICES)
    service_tier: str | None = Field(default=None, max_length=64, description="flex: the key's other requests go first")
    priority: Integer | None = Field(default=None, ge=-(2**63), lt=2**63, description="above 0: as service_tier flex")
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _few_biases(cls, value: object) -> object:
        # Before the entries are validated: a quarter of a million wrong ones would be as many errors.
        if isinstance(value, dict) and len(value) > MAX_BIASES:
            raise ValueError(f"{len(value)} tokens are biased, but at most {MAX_BIASES} may be; send fewer")
        return value

    @model_validator(mode="after")
    def _some_token_is_allowed(self) -> Self:
        if self.allowed_token_ids is not None and not self.allowed_token_ids:
            raise ValueError(
                "allowed_token_ids: the list is empty, so no token is allowed; add token ids, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: needs stream: true; set it, or leave stream_options out")
        if self.prompt_logprobs is not None and self.stream:
            raise ValueError("prompt_logprobs: not supported with stream: true; leave out one of them")
        return self

    def check_beside(self, constraint: Constraint) -> None:
        """Refuse fields that would end an answer before it is complete, or leave no token to go on with.

        Args:
            constraint: What the answer may be, by this request's fields.

        Raises:
            RequestError: 400, naming the field.
        """
        refused: dict[str, object] = {
            "min_tokens": self.min_tokens,
            "ignore_eos": self.ignore_eos,
            "allowed_token_ids": self.allowed_token_ids is not None,
            "bad_words": self.bad_words,
            "stop": self.stops and not allows_any_text(constraint),
        }
        for name, value in refused.items():
            if value:
                other = "tools" if isinstance(constraint, ToolCalls) else "a format of the answer"
                raise RequestError(
                    f"{name}: not possible beside {other}, which says itself what comes and where it ends; leave one "
                    "of them out",
                    param=name,
                    code="invalid_value",
                )

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings as a tuple; empty strings are left out, since they stop nothing."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return tuple(stop for stop in stops if stop)

    @property
    def biases(self) -> tuple[tuple[int, float], ...]:
        """Pairs of a token id and the number that is added to its logit."""
        return tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items())

    @property
    def choices(self) -> int:
        """Number of choices for each prompt."""
        return self.n or 1

    @property
    def flex(self) -> bool:
        """Whether the key's other requests go before this one."""
        return self.service_tier == "flex" or (self.priority or 0) > 0

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that has the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)
