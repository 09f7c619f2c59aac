"""How large a response may become, checked before it is computed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.amount import first
from vicuna_server.api.embeddings import _encoded
from vicuna_server.api.event_size import split_chunk
from vicuna_server.api.logprobs import TextOffsets, chat_logprobs
from vicuna_server.asgi.sse import frame
from vicuna_server.engine import OutputChunk, TokenLogprob, TopLogprob
from vicuna_server.errors import RequestError
from vicuna_server.protocol.embeddings import embedding_list
from vicuna_server.protocol.response_size import MAX_ENTRIES, MAX_RESPONSE_BYTES, check_echo, check_vectors, token_limit

MAX_EVENT_BYTES = 256 * 2**10


@pytest.mark.parametrize(
    ("choices", "max_tokens", "alternatives"),
    [(1, MAX_ENTRIES, None), (16, MAX_ENTRIES // 16, 0), (16, MAX_ENTRIES // 16 // 21, 20), (64, 390, 20), (1, 1, 20)],
)
def test_the_limit_is_accepted_and_one_token_more_is_refused_by_name(
    choices: int, max_tokens: int, alternatives: int | None
) -> None:
    most = token_limit(choices, max_tokens, alternatives, "top_logprobs")
    assert max_tokens <= most
    assert most * choices * (1 + (alternatives or 0)) <= MAX_ENTRIES
    assert token_limit(choices, None, alternatives, "top_logprobs") == most
    with pytest.raises(RequestError) as caught:
        token_limit(choices, most + 1, alternatives, "top_logprobs")
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "max_tokens", "answer_too_large")
    for part in ("n *", "max_tokens *", "top_logprobs", str(MAX_ENTRIES), str(most)):
        assert part in caught.value.message


def _token(text: bytes, alternatives: int) -> TokenLogprob:
    top = tuple(TopLogprob(number, text, -12.345678901234567) for number in range(alternatives))
    return TokenLogprob(1, text, -12.345678901234567, top)


@pytest.mark.parametrize("alternatives", [0, 5, 20])
def test_the_most_entries_stay_below_the_limit_in_bytes(alternatives: int) -> None:
    tokens = [_token(text, alternatives) for text in (b" the", b" understand", b"\n", b"\xf0\x9f", b'"')] * 20
    chat = len(json.dumps(chat_logprobs(tokens), separators=(",", ":"), ensure_ascii=False).encode())
    plain = len(json.dumps(TextOffsets(alternatives=bool(alternatives)).take(tokens), ensure_ascii=False).encode())
    for size in (chat, plain):
        assert size / (len(tokens) * (1 + alternatives)) * MAX_ENTRIES <= MAX_RESPONSE_BYTES * 1.1


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
@pytest.mark.parametrize("size", first([1, 8, 2048, 5120, 16384], 4))
def test_as_many_vectors_as_a_response_holds(size: int, encoding_format: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_vectors(10**7, size, encoding_format)
    error = caught.value
    assert (error.status, error.param, error.code) == (400, "input", "answer_too_large")
    assert ("base64" in error.message.partition(";")[2]) == (encoding_format == "float")
    most = int(error.message.partition("at most ")[2].split()[0])
    check_vectors(most, size, encoding_format)
    with pytest.raises(RequestError):
        check_vectors(most + 1, size, encoding_format)
    vector = [-1.2345678901234567e-05] * size
    few = min(most, 5)
    written = len(_encoded(embedding_list("m" * 100, [vector] * few, 1, encoding_format)))
    assert written / few * most <= MAX_RESPONSE_BYTES * (1 if few > 1 and size > 8 else 3)


def test_2048_vectors_of_a_13b_model_fit_as_base64_only() -> None:
    check_vectors(2048, 5120, "base64")
    with pytest.raises(RequestError, match="base64"):
        check_vectors(2048, 5120, "float")


def test_prompts_are_repeated_within_bounds() -> None:
    check_echo(["x" * 2**20], 16)
    with pytest.raises(RequestError) as caught:
        check_echo(["é" * 2**20], 16)
    assert (caught.value.status, caught.value.param) == (400, "echo")


@pytest.mark.long
@given(
    st.text(max_size=20).map(lambda text: text * 5000),
    st.integers(0, 60),
    st.sampled_from([None, "stop", "length"]),
    st.sampled_from([b" " * 128, b"\x01" * 100, b"\xff" * 20, b"word"]),
)
def test_events_are_small_and_lose_nothing(text: str, count: int, reason: str | None, token: bytes) -> None:
    chunk = OutputChunk(text, 7, reason, tuple(_token(token, 20) for _ in range(count)), 1.5)
    cut = list(split_chunk(chunk))
    assert "".join(part.text for part in cut) == text
    assert sum((part.token_logprobs for part in cut), ()) == chunk.token_logprobs
    assert [part.finish_reason for part in cut] == [None] * (len(cut) - 1) + [reason]
    assert {(part.tokens, part.at) for part in cut} == {(7, 1.5)}
    for part in cut:
        event = {"content": part.text, "logprobs": chat_logprobs(part.token_logprobs)}
        assert len(frame(event)) <= MAX_EVENT_BYTES


def test_an_ordinary_chunk_stays_whole() -> None:
    chunk = OutputChunk("word ", 1)
    assert next(iter(split_chunk(chunk))) is chunk
