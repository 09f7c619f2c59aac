"""The body of `POST /v1/responses`."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from vicuna_server.constraints import AnyJsonObject, JsonSchema
from vicuna_server.protocol.body import Integer, RequestPart
from vicuna_server.protocol.responses.input_items import Items
from vicuna_server.protocol.responses.refused import REFUSED_HERE
from vicuna_server.protocol.responses.tools import ToolFields
from vicuna_server.protocol.sampling import SamplingFields
from vicuna_server.protocol.structured import FormatConstraint
from vicuna_server.protocol.unsupported_fields import Refusal

__all__ = ["JsonSchemaFormat", "ResponsesRequest", "TextOptions"]

MAX_TOP_LOGPROBS = 20
MAX_METADATA = 16
LOGPROBS = "message.output_text.logprobs"
_INCLUDABLE = (LOGPROBS, "reasoning.encrypted_content")
"""Encrypted reasoning is for servers that do not show it; here it is shown, so that nothing is left to include."""

MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
Ident = Annotated[str, Field(min_length=1, max_length=128)]
Label = Annotated[str, Field(max_length=512)]


class PlainFormat(RequestPart):
    """Text, or any JSON object."""

    type: Literal["text", "json_object"]

    @property
    def constraint(self) -> AnyJsonObject | None:
        """What the answer's text may be; None: anything."""
        return AnyJsonObject() if self.type == "json_object" else None


class JsonSchemaFormat(RequestPart):
    """JSON that is valid under a schema."""

    type: Literal["json_schema"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None

    @property
    def constraint(self) -> JsonSchema:
        """What the answer's text may be. The schema is kept to whatever `strict` says."""
        return JsonSchema(json.dumps(self.schema_), "text.format.schema")


class TextOptions(RequestPart):
    """What the text of the answer must be."""

    format: Annotated[PlainFormat | JsonSchemaFormat, Field(discriminator="type")] | None = None
    verbosity: str | None = None


class ResponsesRequest(SamplingFields, ToolFields):
    """The body of `POST /v1/responses`. Sampling fields that OpenAI does not have are those of the other routes."""

    refused: ClassVar[Mapping[str, Refusal]] = REFUSED_HERE
    alternatives_field: ClassVar[str] = "top_logprobs"

    input: str | Items
    instructions: str | None = None
    text: TextOptions | None = None
    max_output_tokens: Integer | None = Field(default=None, ge=1, lt=2**31)
    max_tool_calls: Integer | None = Field(default=None, ge=0, lt=2**31)
    top_logprobs: Integer | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    include: Annotated[list[str], Field(max_length=16)] | None = None
    truncation: Literal["disabled", "auto"] | None = Field(
        default=None, description="auto: the oldest turns are left out where the conversation is too long"
    )
    store: bool | None = None
    previous_response_id: Ident | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA)] | None = None
    reasoning: dict[str, Any] | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None

    @field_validator("include", mode="after")
    @classmethod
    def _includable(cls, value: list[str] | None) -> list[str] | None:
        for name in value or ():
            if name not in _INCLUDABLE:
                raise ValueError(f"{name[:80]!r} cannot be included; {LOGPROBS} can")
        return value

    @model_validator(mode="after")
    def _refuse_what_a_response_does_not_have(self) -> Self:
        if self.n not in (None, 1):
            raise ValueError("n: a response has one answer; leave it out, and send several requests")
        if self.max_tokens is not None:
            raise ValueError("max_tokens: the field is called max_output_tokens here")
        if self.response_format is not None and self.response_format.constraint is not None:
            raise ValueError("response_format: the field is called text.format here")
        if self.prompt_logprobs is not None:
            raise ValueError("prompt_logprobs: not supported here; send plain texts to /v1/completions")
        if self.top_logprobs and LOGPROBS not in (self.include or ()):
            raise ValueError(f"top_logprobs: needs include: [{LOGPROBS}]; add it, or leave top_logprobs out")
        return self

    def _formats(self) -> dict[str, FormatConstraint]:
        stated = None if self.text is None or self.text.format is None else self.text.format.constraint
        return super()._formats() | ({} if stated is None else {"text.format": stated})

    @property
    def alternatives(self) -> int | None:
        """How many alternatives to report beside each token; None: report no log probabilities."""
        return (self.top_logprobs or 0) if LOGPROBS in (self.include or ()) else None
