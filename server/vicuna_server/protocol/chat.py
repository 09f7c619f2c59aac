"""`/v1/chat/completions`: the request.

Source: OpenAI's API reference, "Chat completions", and what the official Python client sends.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from vicuna_server.protocol.body import Integer, RequestPart
from vicuna_server.protocol.functions import MAX_NAME, MAX_TOOLS
from vicuna_server.protocol.sampling import SamplingFields
from vicuna_server.protocol.tools import FunctionCallPart, ToolCallPart, ToolFields

__all__ = ["ChatMessage", "ChatRequest", "Messages", "TemplateVariables", "TextPart", "check_continuation"]

MAX_MESSAGES = 2048
MAX_PARTS = 2048
MAX_TOP_LOGPROBS = 20
"""OpenAI's own limit."""
MAX_VARIABLES = 16
MAX_VARIABLE = 1024


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
    """One message; `developer` is OpenAI's newer name for `system`, and `function` the older one for `tool`."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)] | None = None
    name: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    tool_call_id: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    tool_calls: Annotated[list[ToolCallPart], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    function_call: FunctionCallPart | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    audio: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.calls and self.role != "assistant":
            raise ValueError("tool_calls: only an assistant's message makes calls; leave it out, or change the role")
        if self.audio:
            raise ValueError("audio: not supported, this model reads text only; send the words as content")
        if self.content is None and self.role not in ("assistant", "tool", "function"):
            raise ValueError("content: missing; send text or a list of text parts")
        return self

    @property
    def calls(self) -> list[ToolCallPart]:
        """The calls, in either form."""
        legacy = [ToolCallPart(function=self.function_call)] if self.function_call else []
        return self.tool_calls or legacy

    def text(self) -> str:
        """Return the content as one string; parts are joined by newlines."""
        if self.content is None:
            return self.refusal or ""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


VariableName = Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_]{0,63}$")]
VariableText = Annotated[str, Field(max_length=MAX_VARIABLE)]
TemplateVariables = Annotated[
    dict[VariableName, VariableText | bool | int | float | None], Field(max_length=MAX_VARIABLES)
]
"""Names that the chat template may use, such as `enable_thinking`; those that it has in any case keep their values."""

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


class ChatRequest(SamplingFields, ToolFields):
    """The body of `POST /v1/chat/completions`."""

    alternatives_field: ClassVar[str] = "top_logprobs"

    messages: Messages
    max_completion_tokens: Integer | None = Field(default=None, ge=1, lt=2**31)
    logprobs: bool | None = None
    top_logprobs: Integer | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    truncation: Literal["disabled", "auto"] | None = Field(
        default=None, description="auto: the oldest turns are left out where the conversation is too long"
    )
    include_reasoning: bool | None = Field(default=None, description="false: what the model thinks is left out")
    chat_template_kwargs: TemplateVariables | None = None
    modalities: list[str] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    @model_validator(mode="after")
    def _refuse_unsupported_features(self) -> Self:
        # To ignore one of these would give another completion than the client asked for.
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
