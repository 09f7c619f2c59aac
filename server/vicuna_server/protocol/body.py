"""The base of all request bodies."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from vicuna_server.protocol.unsupported_fields import REFUSED, Refusal, refuse, unknown

__all__ = ["Integer", "ModelName", "RequestBody", "RequestPart"]


def _integer(value: object) -> object:
    """Take 16.0 as 16, as JSON Schema does; `"16"` and true are not numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(_integer)]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]


class RequestPart(BaseModel):
    """A JSON object within a request: null means absent, unknown fields are ignored, and types are not converted."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, strict=True)


class RequestBody(RequestPart):
    """A whole body. Of the fields that the route does not have, those that would change the response are refused."""

    model_config = ConfigDict(extra="allow")

    refused: ClassVar[Mapping[str, Refusal]] = REFUSED

    model: ModelName | None = None

    @model_validator(mode="after")
    def _refuse_unsupported_fields(self) -> Self:
        refuse(self.model_extra, self.refused)
        return self

    @property
    def unknown(self) -> list[str]:
        """Names of fields that are neither supported, refused nor known to be harmless."""
        return unknown(self.model_extra, self.refused)
