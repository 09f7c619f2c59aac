"""What all request bodies have in common."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from vicuna_server.protocol.unsupported_fields import REFUSED, Refusal, refuse, unknown

__all__ = ["Integer", "ModelName", "RequestBody", "RequestPart"]


def _integer(value: object) -> object:
    """Let 16.0 be 16, as JSON Schema has it; `"16"` and true are no numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(_integer)]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]


class RequestPart(BaseModel):
    """A JSON object within a request: null means the same as absent, unknown fields are ignored, types not guessed."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, strict=True)


class RequestBody(RequestPart):
    """A whole request; of fields that the route does not have, those that would change the answer are refused."""

    model_config = ConfigDict(extra="allow")

    refused: ClassVar[Mapping[str, Refusal]] = REFUSED

    model: ModelName | None = None

    @model_validator(mode="after")
    def _refuse_other_dialects(self) -> Self:
        refuse(self.model_extra, self.refused)
        return self

    @property
    def unknown(self) -> list[str]:
        """Names of fields that nothing is known of."""
        return unknown(self.model_extra, self.refused)
