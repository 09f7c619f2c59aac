"""Content parts of input items: text. These models read nothing else."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from vicuna_server.protocol.body import RequestPart

__all__ = ["Content", "TextContent", "text_of"]

MAX_PARTS = 2048

_TEXT = ("input_text", "output_text", "text", "reasoning_text", "summary_text")
_OTHERS = {
    "input_image": "images are",
    "computer_screenshot": "images are",
    "input_audio": "audio is",
    "input_file": "files are",
}


class TextContent(RequestPart):
    """One part: a user's text, a model's text, or the text of its refusal, which counts as text."""

    type: Literal["input_text", "output_text", "text", "reasoning_text", "summary_text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _refusal_is_text(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("type") == "refusal":
            return {"type": "output_text", "text": value.get("refusal")}
        return value

    @field_validator("type", mode="before")
    @classmethod
    def _only_text(cls, value: object) -> object:
        if isinstance(value, str) and value not in _TEXT:
            kind = _OTHERS.get(value, f"parts of type {value[:40]!r} are")
            raise ValueError(f"{kind} not supported: this model reads text only; send parts of type input_text")
        return value


Parts = Annotated[list[TextContent], Field(max_length=MAX_PARTS, fail_fast=True)]
Content = str | Parts
"""A text, or a list of its parts."""


def text_of(content: str | Sequence[TextContent]) -> str:
    """Return the content as one string; parts are joined by newlines."""
    return content if isinstance(content, str) else "\n".join(part.text for part in content)
