"""The parts of an answer in the events of a chat's stream, as OpenAI's API and its relatives write them. Pure."""

from collections.abc import Iterator
from typing import Any

from vicuna_server.tools.output import CallArguments, CallBegin, OutputPart, ReasoningText
from vicuna_server.tools.parsing import OutputParser

__all__ = ["Deltas"]


class Deltas:
    """Reads the events of one answer; what has another form than OpenAI's is left out."""

    def __init__(self) -> None:
        self._content = OutputParser.of_reasoning()  # a server may leave the marks around it in the text
        self._begun: set[int] = set()

    def read(self, event: dict[str, Any]) -> Iterator[OutputPart]:
        """Yield what an event adds to the first choice."""
        for choice in _dicts(event.get("choices"))[:1]:
            delta = _dict(choice.get("delta"))
            # vLLM and OpenRouter use the first name, DeepSeek and SGLang the second; some send both with the same text.
            if reasoning := _text(delta.get("reasoning")) or _text(delta.get("reasoning_content")):
                yield ReasoningText(reasoning)
            if content := _text(delta.get("content")):
                yield from self._content.push(content)
            for call in _dicts(delta.get("tool_calls")):
                yield from self._call(call)

    def end(self) -> Iterator[OutputPart]:
        """Yield what was held back until the answer's end."""
        yield from self._content.end()

    def _call(self, call: dict[str, Any]) -> Iterator[OutputPart]:
        index, function = call.get("index", 0), _dict(call.get("function"))
        if not isinstance(index, int):
            return
        if index not in self._begun:
            self._begun.add(index)
            yield CallBegin(index, _text(call.get("id")), _text(function.get("name")))
        if arguments := _text(function.get("arguments")):
            yield CallArguments(index, arguments)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
