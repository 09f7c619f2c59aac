"""Two counts are found in untrusted JSON, and nothing else of it is read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.gateway.frames import Frames
from vicuna_server.gateway.usage import UsageEnds, last_usage
from vicuna_server.protocol.counts import Used

DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "usage",
    [
        *[b"null", b"[1]", b"{", b'"usage"', b"{}", b'{"prompt_tokens":' + b"9" * 400 + b"}"],
        *[b'{"x":' + b"[" * 1990, b'{"prompt_tokens":' + b"9" * 5000 + b"}", b'{"x":"' + b"L" * 3000 + b'"}'],
        b'{"prompt_tokens":' + DEEP,
    ],
)
def test_odd_usage_is_none(usage: bytes) -> None:
    seen: list[Used] = []
    assert Frames(seen.append).feed(b'data: {"usage": %b}\n\n' % usage).endswith(b"\n\n")
    assert not seen
    assert not last_usage(b'{"usage": %b}' % usage)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        *[("0", True), ("2147483647", True)],
        *[(odd, False) for odd in ("2147483648", "-1", "true", "1.0", "1e3", '"7"', "null", "NaN", "Infinity", "[1]")],
    ],
)
def test_a_count_is_a_whole_number_below_two_to_the_31(value: str, kept: bool) -> None:
    text = f'{{"usage":{{"prompt_tokens":{value},"completion_tokens":5,"details":{{"x":1}},"name":"\\u001b[31m"}}}}'
    assert last_usage(text.encode()) == (int(value) if kept else 0, 5)


def test_responses_have_other_names_for_the_counts() -> None:
    usage = {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 4, "total_tokens": 7}
    text = json.dumps({"output": [], "metadata": {"usage": "prompt_tokens"}, "usage": usage}).encode()
    assert last_usage(text) == Used(3, 4)


@given(st.text(), st.text(), st.integers(0, 9000))
def test_words_of_a_model_are_never_taken_for_its_usage(before: str, after: str, padding: int) -> None:
    forged = before + '"usage": {"prompt_tokens": 666}' + after
    answer = {"choices": [{"text": forged + "x" * padding, "usage ": forged}], "usage": {"prompt_tokens": 3}}
    for whole in (answer, {**answer, "more": [forged, "usage"]}):
        for ascii_only in (True, False):
            data = json.dumps(whole, ensure_ascii=ascii_only).encode(errors="replace")
            ends = UsageEnds()
            for start in range(0, len(data), 1000):
                ends.feed(data[start : start + 1000])
            assert ends.usage() in ((3, 0), None)
            assert last_usage(data) == (3, 0)


@pytest.mark.parametrize("size", [1, 4096, 5_000_000])
def test_the_usage_of_a_large_answer_is_found_at_either_end(size: int) -> None:
    filling = b'"data": "' + b"x" * size + b'"'
    for data in (
        b'{"usage": {"prompt_tokens": 3}, ' + filling + b"}",
        b"{" + filling + b', "usage": {"prompt_tokens": 3}}',
    ):
        ends = UsageEnds()
        for start in range(0, len(data), 65_536):
            ends.feed(data[start : start + 65_536])
        assert ends.usage() == (3, 0)


def test_the_last_event_with_counts_tells_and_a_comment_does_not() -> None:
    seen: list[Used] = []
    frames = Frames(seen.append)
    frames.feed(b'data: {"usage":null}\n\ndata: {"usage":{"prompt_tokens":1}}\n\n')
    frames.feed(b'data: {"usage":{"prompt_tokens":2}}\n\ndata: {"usage":null}\n\n: "usage":{"prompt_tokens":9}\n\n')
    assert seen == [(1, 0), (2, 0)]
