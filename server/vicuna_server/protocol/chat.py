"""`/v1/chat/completions`: the request.

Source: OpenAI's API reference, "Chat completions", and what the official Python client sends.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from vicuna_server.protocol.body import Integer, RequestPart
from vicuna_server.protocol.sampling import SamplingFields

__all__ = ["ChatMessage", "ChatRequest", "Messages", "TextPart", "check_continuation"]

MAX_MESSAGES = 2048
MAX_PARTS = 2048
MAX_TOP_LOGPROBS = 20
"""OpenAI's own limit."""


_OTHER_PARTS = {
    "image_url": "images are",
    "input_image": "images are",
    "image": "images are",
    "input_audio": "audio is",
    "audio_url": "audio is",
    "video_url": "videos are",
    "file": "files are",
    "input_file": "files are",
}


class TextPart(RequestPart):
    """One content part. These models read text only; the text of an assistant's refusal counts as text."""

    type: Literal["text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _refusal_is_text(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("type") == "refusal":
            return {"type": "text", "text": value.get("refusal")}
        return value

    @field_validator("type", mode="before")
    @classmethod
    def _only_text(cls, value: object) -> object:
        if isinstance(value, str) and value != "text":
            kind = _OTHER_PARTS.get(value, f"parts of type {value[:40]!r} are")
            raise ValueError(f"{kind} not supported: this model reads text only; send parts of type text")
        return value


class ChatMessage(RequestPart):
    """One message; `developer` is OpenAI's newer name for `system`."""

    # tool and function are left out: they answer calls, which this server's models do not make
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)] | None = None
    tool_calls: list[Any] | None = None
    function_call: dict[str, Any] | None = None
    refusal: str | None = None
    audio: dict[str, Any] | None = None

    @field_validator("role", mode="before")
    @classmethod
    def _no_tools(cls, value: object) -> object:
        if value in ("tool", "function"):
            raise ValueError("tools are not supported by this server; leave out messages with calls and their results")
        return value

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.tool_calls or self.function_call:
            raise ValueError("tool_calls: not supported by this server; leave out messages with calls")
        if self.audio:
            raise ValueError("audio: not supported, this model reads text only; send the words as content")
        if self.content is None and self.role != "assistant":
            raise ValueError("content: missing; send text or a list of text parts")
        return self

    def text(self) -> str:
        """Return the content as one string; parts are joined by newlines."""
        if self.content is None:
            return self.refusal or ""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


Messages = Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]


def check_continuation(messages: list[ChatMessage], opened: bool | None, continued: bool | None) -> None:
    """Refuse vLLM's fields where they differ from what happens: the role of the last message alone decides.

    Args:
        messages: The conversation.
        opened: `add_generation_prompt`, whether the template opens a new message of the assistant; None: not given.
        continued: `continue_final_message`, whether the model continues the last message; None: not given.

    Raises:
        ValueError: The message begins with the field's name.
    """
    last = messages[-1].role == "assistant"
    for name, value, done in (
        ("continue_final_message", continued, last),
        ("add_generation_prompt", opened, not last),
    ):
        if value is not None and value != done:
            raise ValueError(
                f"{name}: must be {str(done).lower()} here, since a last message of the assistant is continued and any "
                "other gets a new message; leave it out, or change the last message"
            )


class ChatRequest(SamplingFields):
    """The body of `POST /v1/chat/completions`."""

    alternatives_field: ClassVar[str] = "top_logprobs"

    messages: Messages
    max_completion_tokens: Integer | None = Field(default=None, ge=1, lt=2**31)
    logprobs: bool | None = None
    top_logprobs: Integer | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    truncation: Literal["disabled", "auto"] | None = Field(
        default=None, description="auto: the oldest turns are left out where the conversation is too long"
    )
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    modalities: list[str] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    @model_validator(mode="after")
    def _refuse_unsupported_features(self) -> Self:
        # To ignore one of these would give another completion than the client asked for.
        for name, choice in (("tools", self.tool_choice), ("functions", self.function_call)):
            if getattr(self, name) and choice != "none":
                raise ValueError(f"{name}: not supported by this server; leave it out")
        if self.modalities and self.modalities != ["text"]:
            raise ValueError("modalities: only text is supported by this server; leave it out")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs: needs logprobs: true; set it, or leave top_logprobs out")
        return self

    @model_validator(mode="after")
    def _continuation_is_as_stated(self) -> Self:
        check_continuation(self.messages, self.add_generation_prompt, self.continue_final_message)
        return self

    @property
    def token_limit(self) -> int | None:
        """The most tokens to generate, by either of its two names; None: up to the end of the context."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many alternatives to report beside each token; None: report no log probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None
