"""Content of input items."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from vicuna_server.protocol.content_parts import MAX_PARTS, ContentPart

__all__ = ["Content", "TextContent", "text_of"]


class TextContent(ContentPart):
    """One part: a user's text, or a model's text or reasoning."""

    kinds = ("input_text", "output_text", "text", "reasoning_text", "summary_text")

    type: Literal["input_text", "output_text", "text", "reasoning_text", "summary_text"]


Parts = Annotated[list[TextContent], Field(max_length=MAX_PARTS, fail_fast=True)]
Content = str | Parts
"""A text, or a list of its parts."""


def text_of(content: str | Sequence[TextContent]) -> str:
    """Return the content as one string; parts are joined by newlines."""
    return content if isinstance(content, str) else "\n".join(part.text for part in content)
