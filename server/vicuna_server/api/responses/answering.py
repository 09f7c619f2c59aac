"""How an answer is asked of the engine and read from its text. The one place that knows of tools' formats."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from vicuna_server.api.responses.tool_use import ToolUse
from vicuna_server.engine import ChatPrompt, PreparedPrompt
from vicuna_server.engine.base import AnyJsonObject, Constraint, JsonSchema
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Message
from vicuna_server.protocol.responses.request import JsonSchemaFormat, TextOptions
from vicuna_server.tools.output import OutputPart, Text

__all__ = ["AnswerPlan", "Parser", "PlainText", "constraint_of", "plan_answer"]


class Parser(Protocol):
    """Reads the parts of one answer from its text."""

    def push(self, text: str) -> list[OutputPart]:
        """Take more text, and return the parts that are certain by now."""

    def end(self) -> list[OutputPart]:
        """Return what is left at the end of the answer."""


class PlainText:
    """Takes all text as text for the user."""

    def push(self, text: str) -> list[OutputPart]:
        """Return the text."""
        return [Text(text)] if text else []

    def end(self) -> list[OutputPart]:
        """Return nothing: all text was told at once."""
        return []


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """What the engine is asked, and what reads its answer.

    Attributes:
        prompt: The conversation, with the tools that the model is told of.
        constraint: What the text must be; None: anything.
        parser: Makes what reads the answer, once the prompt is encoded: it may have begun the reasoning.
    """

    prompt: ChatPrompt
    constraint: Constraint | None
    parser: Callable[[PreparedPrompt], Parser]


def plan_answer(messages: Sequence[Message], use: ToolUse, text: TextOptions | None) -> AnswerPlan:
    """Return how a request is answered.

    Args:
        messages: The conversation.
        use: What the answer may do with tools.
        text: What its text must be.

    Raises:
        RequestError: 400; tools are offered that may be called.
    """
    if use.callable:
        raise RequestError("tools: not supported by this server; leave it out", param="tools", code="invalid_value")
    return AnswerPlan(ChatPrompt(tuple(messages), use.tools), constraint_of(text), lambda _: PlainText())


def constraint_of(text: TextOptions | None) -> AnyJsonObject | JsonSchema | None:
    """Return what `text.format` asks for; None: any text."""
    wanted = None if text is None else text.format
    if isinstance(wanted, JsonSchemaFormat):
        return JsonSchema(json.dumps(wanted.schema_), param="text.format")
    return AnyJsonObject() if wanted is not None and wanted.type == "json_object" else None
