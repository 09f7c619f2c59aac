"""The request fields that chat and plain completions share."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["MAX_STOP_LENGTH", "SamplingFields", "StreamOptions"]

MAX_STOP_STRINGS = 4
"""OpenAI's own limit."""
MAX_STOP_LENGTH = 256


class StreamOptions(BaseModel):
    """`stream_options` of OpenAI."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class SamplingFields(BaseModel):
    """Fields of every generation request; null means the same as absent, unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    model: str = Field(min_length=1, max_length=256)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, Any] | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _stop_as_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _stop_within_limits(cls, value: list[str] | None) -> list[str] | None:
        if value is None:
            return None
        if len(value) > MAX_STOP_STRINGS:
            raise ValueError(f"at most {MAX_STOP_STRINGS} stop strings are allowed, got {len(value)}")
        if any(not 0 < len(text) <= MAX_STOP_LENGTH for text in value):
            raise ValueError(f"a stop string has 1 to {MAX_STOP_LENGTH} characters")
        return value

    @model_validator(mode="after")
    def _refuse_what_would_be_ignored(self) -> Self:
        # Answering as if these had not been asked for would be a wrong answer, so they are refused by name.
        if self.n is not None and self.n > 1:
            raise ValueError("n: this server gives one choice per request, leave n out or set it to 1")
        for name in ("presence_penalty", "frequency_penalty", "logit_bias"):
            if getattr(self, name):
                raise ValueError(f"{name}: not supported by this server, leave it out")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only allowed together with stream: true")
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that carries the usage."""
        return self.stream_options is not None and self.stream_options.include_usage
