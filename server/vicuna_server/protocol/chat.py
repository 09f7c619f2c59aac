"""`/v1/chat/completions`: request model and response objects.

Source: OpenAI's API reference, "Chat completions"; what the official Python client parses is the judge.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vicuna_server.protocol.sampling import SamplingFields
from vicuna_server.protocol.usage import usage

__all__ = ["ChatMessage", "ChatRequest", "TextPart", "chat_chunk", "chat_response", "usage_chunk"]

MAX_MESSAGES = 2048


class TextPart(BaseModel):
    """One content part; only text can be read by these models."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One message; `developer` is OpenAI's newer name for `system`."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise ValueError("content: must be text or a list of text parts")
        return self

    def text(self) -> str:
        """Return the content as one string; parts are joined by newlines."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class ChatRequest(SamplingFields):
    """The body of `POST /v1/chat/completions`."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = None
    response_format: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _refuse_unsupported_features(self) -> Self:
        for name in ("tools", "functions", "logprobs"):
            if getattr(self, name):
                raise ValueError(f"{name}: not supported by this server, leave it out")
        if self.response_format and self.response_format.get("type", "text") != "text":
            raise ValueError("response_format: only text is supported by this server")
        return self

    @property
    def token_limit(self) -> int | None:
        """The most tokens to generate, by either of its two names; None: up to the context's end."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


def chat_response(
    ident: str, created: int, model: str, text: str, finish_reason: str, prompt_tokens: int, tokens: int
) -> dict[str, object]:
    """Return the whole answer of a request without streaming."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": ident,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}],
        "usage": usage(prompt_tokens, tokens),
    }


def chat_chunk(
    ident: str, created: int, model: str, delta: dict[str, str], finish_reason: str | None = None
) -> dict[str, object]:
    """Return one streamed chunk with a `delta` of role or content."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _chunk(ident, created, model, [choice])


def usage_chunk(ident: str, created: int, model: str, prompt_tokens: int, tokens: int) -> dict[str, object]:
    """Return the last chunk of a stream with `include_usage`: no choices, only the counts."""
    return {**_chunk(ident, created, model, []), "usage": usage(prompt_tokens, tokens)}


def _chunk(ident: str, created: int, model: str, choices: Sequence[object]) -> dict[str, object]:
    return {
        "id": ident,
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": list(choices),
    }
