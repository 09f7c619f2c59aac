"""The parts in the events of a stream: thoughts, also between marks in the text, text and calls."""

from typing import Any

import pytest

from vicuna_server.chat.deltas import Deltas
from vicuna_server.tools.output import CallArguments, CallBegin, OutputPart, ReasoningText, Text


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


def joined(parts: list[OutputPart]) -> tuple[str, str]:
    """Thoughts and text."""
    thoughts = "".join(part.text for part in parts if isinstance(part, ReasoningText))
    return thoughts, "".join(part.text for part in parts if isinstance(part, Text))


@pytest.mark.parametrize(
    ("whole", "thoughts", "text"),
    [
        ("plain", "", "plain"),
        ("<think>a < b</think>\n\n c", "a < b", "c"),
        (" \n<think></think>c <think>d</think>", "", "c <think>d</think>"),
        ("<think>cut off </thin", "cut off </thin", ""),
        ("<thin", "", "<thin"),
        ("a <think>b</think>", "", "a <think>b</think>"),
        ("<think>a</thi</think>b", "a</thi", "b"),
        ("", "", ""),
    ],
)
def test_thoughts_are_the_same_however_the_text_is_cut(whole: str, thoughts: str, text: str) -> None:
    for size in range(1, len(whole) + 2):
        deltas = Deltas()
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        parts = [part for piece in pieces for part in deltas.read(chunk(content=piece))]
        assert joined([*parts, *deltas.end()]) == (thoughts, text)


def test_text_is_told_at_once() -> None:
    deltas = Deltas()
    assert joined(list(deltas.read(chunk(content="a")))) == ("", "a")
    assert joined(list(deltas.read(chunk(content=" <")))) == ("", " <")


def test_events_hold_thoughts_text_and_calls() -> None:
    deltas = Deltas()
    events = [
        chunk(role="assistant", content=None, reasoning="a", reasoning_content="a"),
        chunk(reasoning_content="b"),
        chunk(content="c"),
        chunk(tool_calls=[{"index": 0, "id": "x", "function": {"name": "f", "arguments": ""}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]),
        {"choices": [], "usage": {}},
    ]
    parts = [part for event in events for part in deltas.read(event)]
    wanted = [ReasoningText("a"), ReasoningText("b"), Text("c"), CallBegin(0, "x", "f"), CallArguments(0, "{}")]
    assert [*parts, *deltas.end()] == wanted


@pytest.mark.parametrize(
    "event",
    [
        {"choices": None},
        {"choices": [None]},
        {"choices": [{"delta": 5}]},
        chunk(content=5, reasoning=["a"], tool_calls={}),
        chunk(tool_calls=[None, {"index": "a"}, {"index": [1], "function": 4}]),
    ],
)
def test_events_of_another_form_add_nothing(event: dict[str, Any]) -> None:
    assert list(Deltas().read(event)) == []
