"""Events of `/v1/responses`, and a format of reasoning and calls for the scripted engine."""

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from vicuna_server.api.responses import route
from vicuna_server.constraints import Constraint
from vicuna_server.prompts import Tool
from vicuna_server.tools.chat_format import ChatFormat
from vicuna_server.tools.output import CallArguments, CallBegin, CallEnd, OutputPart, ReasoningText, Text
from vicuna_server.tools.parsing import OutputParser
from vicuna_server.tools.planning import AnswerPlan, ToolChoice

__all__ = ["PATH", "WEATHER", "events", "use_words", "with_salt"]

PATH = "/v1/responses"
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}


def with_salt(salt: str = "a" * 32) -> dict[str, str]:
    """Return the header by which a server knows whose request it is."""
    return {"x-vicuna-cache-salt": salt}


def events(text: str) -> list[dict[str, Any]]:
    """Return the events of a whole stream, whose form is checked: names, numbers and the end."""
    *frames, done, nothing = [frame for frame in text.split("\n\n") if not frame.startswith(":")]
    assert (done, nothing) == ("data: [DONE]", "")
    read = []
    for frame in frames:
        name, data = frame.split("\n")
        event: dict[str, Any] = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        read.append(event)
    numbers = [event["sequence_number"] for event in read]
    assert numbers == list(range(numbers[0], numbers[0] + len(read)))
    return read


class Words:
    """Reads words: behind `thinking` comes reasoning, behind `answer` text; `call NAME ARGUMENTS` is a call."""

    def __init__(self) -> None:
        self._thinks = False
        self._call: list[str] | None = None
        self._calls = 0

    def push(self, text: str) -> list[OutputPart]:
        """Take one word."""
        return [part for word in text.split() for part in self._word(word)]

    def end(self) -> list[OutputPart]:
        """Return nothing."""
        return []

    def _word(self, word: str) -> list[OutputPart]:
        if self._call is not None:
            self._call.append(word)
            return self._piece(self._call)
        if word in ("thinking", "answer"):
            self._thinks = word == "thinking"
            return []
        if word == "call":
            self._call = []
            return []
        return [(ReasoningText if self._thinks else Text)(f"{word} ")]

    def _piece(self, call: list[str]) -> list[OutputPart]:
        index = self._calls
        if len(call) == 1:
            return [CallBegin(index, f"call_{index}", call[0])]
        self._call, self._calls = None, index + 1
        return [CallArguments(index, call[1][:1]), CallArguments(index, call[1][1:]), CallEnd(index)]


class _WordsPlan(AnswerPlan):
    def parser(self, answer: str, *, thinking: bool = False) -> OutputParser | None:
        return cast(OutputParser, Words())


def use_words(patch: pytest.MonkeyPatch) -> None:
    """Have all answers of servers in this process read by `Words`."""

    def plan(
        model: ChatFormat, tools: Sequence[Tool], choice: ToolChoice, constraint: Constraint | None, param: str
    ) -> AnswerPlan:
        return _WordsPlan(tuple(tools), constraint)

    patch.setattr(route, "plan_answer", plan)
