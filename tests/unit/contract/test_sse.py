"""Server-sent events are read as the specification says, and a stream that is cut is told from one that is over."""

from collections.abc import Iterable

import pytest

from vicuna_contract.sse import read_events

END = ["data: [DONE]", ""]


@pytest.mark.parametrize(
    "lines",
    [
        ['data: {"a": 1}', "", *END],
        ['data: {"a": 1}\n', "\n", "data: [DONE]\n", "\n"],
        ['data: {"a": 1}\r\n', "\r\n", "data: [DONE]\r\n", "\r\n"],
        ['data:{"a":1}', "", "data:[DONE]"],
        ['data: {"a":', "data: 1}", "", *END],
        [": a comment", "", "event: x", "id: 7", 'data: {"a": 1}', ":", "", "", *END, 'data: {"b": 2}', ""],
    ],
)
def test_events_are_what_stands_in_front_of_the_end(lines: Iterable[str]) -> None:
    assert list(read_events(lines)) == [{"a": 1}]


@pytest.mark.parametrize("lines", [[], ['data: {"a": 1}', ""], ['data: {"a": 1}'], [": [DONE]", ""]])
def test_a_stream_without_its_end_was_cut(lines: list[str]) -> None:
    with pytest.raises(EOFError):
        list(read_events(lines))


@pytest.mark.parametrize("data", ["<html>", "[1]", "3", "[" * 100_000])
def test_what_is_not_an_object_is_told_by_its_beginning(data: str) -> None:
    with pytest.raises(ValueError, match="not a JSON object") as caught:
        list(read_events([f"data: {data}", "", *END]))
    assert len(str(caught.value)) < 120
