"""An answer's parts: the same however its text is cut, all calls found, and nothing lost that is not one."""

import json
import re
from collections.abc import Sequence
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.amount import examples
from vicuna_server.tools.formats import FORMATS, GENERIC, HERMES, LLAMA, MISTRAL, CallFormat
from vicuna_server.tools.output import CallArguments, CallBegin, CallEnd, OutputPart, ReasoningText, Text, joined
from vicuna_server.tools.parsing import OutputParser

ALL = [GENERIC, *(form for form, _ in FORMATS)]
NAMES = ("weather", "get-time", "a")
PIECES = (
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|tool_call|>", "<|python_tag|>", "<think>", "</think>",
    '{"name": "weather", "arguments": ', '{"name": "a", "parameters": ', '{"name": "no", "arguments": ', "weather",
    '{"a": "}<tool_call>"}', '{"a": [1, {"b": "\\""}]}', "{}", "}", "]", "[", ",", " ", "\n", "<", "{", '"', "\\",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
ARGUMENTS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda more: st.lists(more, max_size=3) | st.dictionaries(st.text(max_size=3), more, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


def parser(form: CallFormat | None, **options: Any) -> OutputParser:
    numbers = count()
    return OutputParser(form, NAMES, lambda: f"id{next(numbers)}", **options)


def parts_of(pieces: Sequence[str], form: CallFormat | None, **options: Any) -> list[OutputPart]:
    subject = parser(form, **options)
    parts = [part for piece in pieces for part in subject.push(piece)]
    return joined([*parts, *subject.end()])


def written(form: CallFormat, calls: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Return calls as a constraint lets the model write them."""
    forms = [form.form(name, "{}") for name, _ in calls]
    texts = [
        one.begin + json.dumps(arguments, ensure_ascii=False) + one.end
        for one, (_, arguments) in zip(forms, calls, strict=True)
    ]
    return form.between.join(texts)


def called(parts: Sequence[OutputPart]) -> list[tuple[str, Any]]:
    begun = {part.index: part.name for part in parts if isinstance(part, CallBegin)}
    texts = dict.fromkeys(begun, "")
    for part in parts:
        if isinstance(part, CallArguments):
            texts[part.index] += part.text
    ended = [part.index for part in parts if isinstance(part, CallEnd)]
    return [(begun[index], json.loads(texts[index])) for index in ended]


@given(
    TEXTS,
    st.lists(st.integers(0, 200), max_size=30),
    st.sampled_from([*ALL, None]),
    *(st.booleans() for _ in range(4)),
)
@example("<tool_call>{}", [11], GENERIC, False, False, True, True)
def test_the_parts_do_not_depend_on_the_cuts(
    text: str, cuts: list[int], form: CallFormat | None, thinks: bool, thinking: bool, parallel: bool, streams: bool
) -> None:
    options = {"thinks": thinks, "thinking": thinking, "parallel": parallel, "streams": streams}
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(places)]
    whole = parts_of([text], form, **options)
    assert parts_of(pieces, form, **options) == whole
    assert parts_of(list(text), form, **options) == whole


@given(TEXTS, st.sampled_from(ALL), st.booleans())
def test_nothing_but_white_space_is_lost_where_there_is_no_call(text: str, form: CallFormat, streams: bool) -> None:
    parts = parts_of([text], form, streams=streams)
    if not any(isinstance(part, CallBegin) for part in parts):
        assert "".join(part.text for part in parts if isinstance(part, Text)) == text


@given(TEXTS, st.sampled_from(ALL))
def test_a_call_that_is_told_when_complete_is_valid_and_of_a_known_tool(text: str, form: CallFormat) -> None:
    parts = parts_of([text], form, streams=False)
    for name, arguments in called(parts):
        assert name in NAMES
        assert isinstance(arguments, dict)
    assert sum(isinstance(part, CallBegin) for part in parts) == sum(isinstance(part, CallEnd) for part in parts)


@settings(max_examples=examples(100))
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), ARGUMENTS), min_size=1, max_size=4),
    st.sampled_from(ALL),
    st.booleans(),
    st.sampled_from(["", "Let me look.", "a < b, {"]),
    st.integers(1, 7),
)
def test_calls_that_are_written_are_read(
    calls: list[tuple[str, dict[str, Any]]], form: CallFormat, streams: bool, text: str, step: int
) -> None:
    text = "" if form.first_only else text
    whole = text + written(form, calls)
    parts = parts_of([whole[at : at + step] for at in range(0, len(whole), step)], form, streams=streams)
    assert called(parts) == calls
    assert [part.ident for part in parts if isinstance(part, CallBegin)] == [f"id{at}" for at in range(len(calls))]
    assert "".join(part.text for part in parts if isinstance(part, Text)) == text


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "parameters": {}}</tool_call>',
        "Use <tool_call> tags.",
        '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>',
        '{"name": "weather", "arguments": {}}',
        "<tool_call>",
        "<tool_call>" + " " * 300 + '{"name": "weather", "arguments": {}}</tool_call>',
    ],
)
def test_what_only_resembles_a_call_stays_text(text: str) -> None:
    assert parts_of([text], HERMES) == [Text(text)]


def test_a_call_behind_one_that_is_none_is_found() -> None:
    parts = parts_of(['<tool_call>No. <tool_call>{"name": "a", "arguments": {}}</tool_call>'], GENERIC)
    assert parts == [Text("<tool_call>No."), CallBegin(0, "id0", "a"), CallArguments(0, "{}"), CallEnd(0)]


@pytest.mark.parametrize("arguments", ["{'a': 1}", '{"a": 1,}', '{"a": }', '{"a": 1'])
def test_arguments_that_are_not_json_make_it_text_where_nothing_keeps_them_valid(arguments: str) -> None:
    text = f'See <tool_call>{{"name": "a", "arguments": {arguments}}}</tool_call>'
    assert parts_of([text], GENERIC, streams=False) == [Text(text)]


def test_arguments_come_as_they_are_written() -> None:
    subject = parser(GENERIC)
    assert subject.push('<tool_call>{"name": "a", "arguments": {"b": ') == [
        CallBegin(0, "id0", "a"),
        CallArguments(0, '{"b": '),
    ]
    assert subject.push('"x') == [CallArguments(0, '"x')]
    assert subject.push('"}}</tool') == [CallArguments(0, '"}')]
    assert subject.push("_call>") == [CallEnd(0)]


def test_a_call_that_is_cut_off_keeps_what_was_told_and_is_not_complete() -> None:
    subject = parser(GENERIC)
    parts = [*subject.push('<tool_call>{"name": "a", "arguments": {"b": "x'), *subject.end()]
    assert parts == [CallBegin(0, "id0", "a"), CallArguments(0, '{"b": "x')]
    assert (subject.calls, subject.broken) == (0, True)


@pytest.mark.parametrize("rest", ["", "}", "}\n", "}</tool_c"])
@pytest.mark.parametrize("streams", [True, False])
def test_a_call_whose_end_alone_is_cut_off_is_complete(rest: str, streams: bool) -> None:
    parts = parts_of(['<tool_call>{"name": "a", "arguments": {}' + rest], GENERIC, streams=streams)
    assert parts == [CallBegin(0, "id0", "a"), CallArguments(0, "{}"), CallEnd(0)]


def test_white_space_next_to_a_call_is_left_out() -> None:
    call = written(HERMES, [("a", {})])
    parts = parts_of([f"One.\n\n{call}\n{call}\n\nTwo. \n"], HERMES)
    assert [part for part in parts if isinstance(part, Text)] == [Text("One."), Text("Two. \n")]
    assert called(parts) == [("a", {}), ("a", {})]


def test_without_parallel_calls_the_second_is_text() -> None:
    call = written(GENERIC, [("a", {})])
    assert parts_of([f"{call}\n{call}"], GENERIC, parallel=False)[3:] == [Text(call)]


def test_a_list_of_calls_and_ids_that_the_model_made() -> None:
    text = (
        '[TOOL_CALLS] [{"name": "a", "arguments": {}, "id": "abc123DEF"}, {"name": "weather", "arguments": {"x": 1}}]'
    )
    assert called(parts_of([text], MISTRAL)) == [("a", {}), ("weather", {"x": 1})]


@pytest.mark.parametrize("before", ["", "\n", "<|python_tag|>"])
def test_llamas_call_is_the_answers_beginning(before: str) -> None:
    call = written(LLAMA, [("weather", {"x": 1})])
    assert called(parts_of([before + call], LLAMA, streams=False)) == [("weather", {"x": 1})]
    said = f"The call is {call}"
    assert parts_of([said], LLAMA, streams=False) == [Text(said)]


@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("<think>\nHm. </think>\n\nYes.", False, [ReasoningText("Hm."), Text("Yes.")]),
        ("Hm.\n</think>\n\nYes.", True, [ReasoningText("Hm."), Text("Yes.")]),
        ("<think>Hm", False, [ReasoningText("Hm")]),
        ("Yes. <think>", False, [Text("Yes. <think>")]),
        ("<think></think>Yes.", False, [Text("Yes.")]),
        ("\n<thin", False, [Text("\n<thin")]),
    ],
)
def test_reasoning_is_what_stands_between_its_marks(text: str, opened: bool, expected: list[OutputPart]) -> None:
    assert parts_of([text], None, thinks=True, thinking=opened) == expected
    assert parts_of(list(text), None, thinks=True, thinking=opened) == expected


def test_calls_within_reasoning_are_none() -> None:
    call = written(GENERIC, [("a", {})])
    parts = parts_of([f"<think>{call}</think>{call}"], GENERIC, thinks=True)
    assert parts[0] == ReasoningText(call)
    assert called(parts) == [("a", {})]


def test_a_long_answer_takes_time_in_proportion_to_its_length() -> None:
    """Each letter is looked at a few times, also where none of it is a call in the end.

    With all of it at hand at each trigger, this would take seconds.
    """
    triggers = "<tool_call>" * 20_000
    assert parts_of([triggers], GENERIC) == [Text(triggers)]
    text = '<tool_call>{"name": "a", "arguments": {"b": "' + "x" * 200_000
    assert parts_of(re.findall(".{1,4}", text), GENERIC, streams=False) == [Text(text)]
