"""Termination messages: written small and whole, read whatever they are."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_contract.heads import Heads
from vicuna_contract.reasons import FORMER_REASONS, MERGE_REASONS, SERVE_REASONS
from vicuna_contract.termination import MAX_BYTES, Failed, Merged, Pruned, Report, encode, read_report


def test_what_a_merge_says_is_what_the_operator_reads() -> None:
    message = encode(Merged("0" * 16, "alpaca", "alpaca", 7).fields())
    assert read_report(message.decode()) == Report("Merged", artifact_id="0" * 16, bytes=7, chat_template="alpaca")


def test_what_a_failure_says_is_what_the_operator_reads() -> None:
    message = encode(Failed("OutOfSpace", "no room", True, "last lines").fields())
    assert read_report(message.decode()) == Report("OutOfSpace", "no room", True, "last lines")
    assert "log" not in json.loads(encode(Failed("R", "m", False).fields()))


def test_a_reason_of_an_earlier_image_is_read_under_its_present_name() -> None:
    report = read_report('{"reason": "ClaimLost", "message": "another merger took over", "retryable": true}')
    assert report == Report("LockLost", "another merger took over", True)
    assert set(FORMER_REASONS.values()) <= MERGE_REASONS | SERVE_REASONS


def test_what_a_clean_up_says() -> None:
    assert json.loads(encode(Pruned(2, 10).fields())) == {"reason": "Pruned", "count": 2, "bytes": 10}


def test_what_a_merge_warns_of_is_what_the_operator_reads() -> None:
    warnings = (("ConversionLossy", "27 values were changed"), ("HeadNotTied", "it is kept"))
    message = encode(Merged("0" * 16, "none", "alpaca", 7, warnings).fields())
    assert read_report(message.decode()) == Report(
        "Merged", artifact_id="0" * 16, bytes=7, warnings=warnings, chat_template="alpaca"
    )
    assert "warnings" not in json.loads(encode(Merged("0" * 16, "none", "alpaca", 7).fields()))


@pytest.mark.parametrize("count", [1, 5, 100])
@pytest.mark.parametrize("letter", ["x", "😀", "\ud800", "\n"])
def test_many_long_warnings_are_cut_and_the_artifact_is_still_named(letter: str, count: int) -> None:
    warnings = tuple((f"Reason{number}", letter * 9000) for number in range(count))
    data = encode(Merged("0" * 16, "none", "alpaca", 7, warnings).fields())
    assert len(data) <= MAX_BYTES
    read = read_report(data.decode())
    assert read is not None
    assert (read.artifact_id, read.bytes) == ("0" * 16, 7)
    assert [reason for reason, _ in read.warnings] == [f"Reason{number}" for number in range(len(read.warnings))]
    assert read.warnings


@pytest.mark.parametrize("letter", ["x", "é", "😀", "\n", '"'])
def test_a_long_message_is_cut_and_stays_json(letter: str) -> None:
    data = encode(Failed("R", letter * 9000, True, "l" * 1000).fields())
    assert len(data) <= MAX_BYTES
    read = read_report(data.decode())
    assert read is not None
    assert (read.reason, read.log) == ("R", "")
    assert read.message.startswith(letter * 500)


@pytest.mark.parametrize(
    "text", ["", "killed", "[]", "{}", '{"reason": 5}', '{"reason": ""}', "[" * 100_000, '{"a":' * 20_000, '{"reason"']
)
def test_what_is_not_a_message_is_text(text: str) -> None:
    assert read_report(text) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"reason":"Merged","artifactID":5,"bytes":true,"log":[],"message":{},"retryable":"yes"}',
        '{"reason":"Merged","bytes":-1}',
        '{"reason":"Merged","warnings":{"reason":"R","message":"m"}}',
        '{"reason":"Merged","warnings":[5,{},{"reason":"R"},{"reason":1,"message":"m"},{"reason":"R","message":""}]}',
        '{"reason":"Merged","bytes":1' + "0" * 400 + "}",
        '{"reason":"Merged","bytes":1e400}',
    ],
)
def test_a_field_in_a_wrong_form_is_as_if_it_were_absent(text: str) -> None:
    assert read_report(text) == Report("Merged")


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x)).map(json.dumps))
def test_reading_never_raises(text: str) -> None:
    read_report(text)


def test_the_heads_of_a_merges_model_are_told_where_they_are_known() -> None:
    message = encode(Merged("0" * 16, "none", "alpaca", 7, heads=Heads(64, 8)).fields())
    assert json.loads(message)["attentionHeads"] == 64
    read = read_report(message.decode())
    assert read is not None
    assert read.heads == Heads(64, 8)
    assert "attentionHeads" not in json.loads(encode(Merged("0" * 16, "none", "alpaca", 7).fields()))


@pytest.mark.parametrize("odd", ['"40"', "-1", "true", "1e9", "null"])
def test_odd_heads_are_none(odd: str) -> None:
    read = read_report(f'{{"reason": "Merged", "attentionHeads": {odd}}}')
    assert read is not None
    assert read.heads is None
