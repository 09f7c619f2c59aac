"""Request bodies: what is accepted, what is refused, and that the error names the field."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from vicuna_server.errors import EngineError, OverloadedError, RequestError
from vicuna_server.protocol.chat import ChatRequest
from vicuna_server.protocol.completions import CompletionRequest
from vicuna_server.protocol.embeddings import embedding_list
from vicuna_server.protocol.errors import error_of, from_validation

HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def refusal(body: object, model: type[ChatRequest] | type[CompletionRequest] = ChatRequest) -> RequestError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(raw)
    return from_validation(caught.value)


def test_null_is_the_same_as_absent_and_unknown_fields_are_ignored() -> None:
    body = {**HELLO, "temperature": None, "stop": None, "tools": None, "n": None, "user": "x", "metadata": {"a": 1}}
    request = ChatRequest.model_validate_json(json.dumps(body))
    assert request.temperature is None
    assert request.stops == ()


def test_content_parts_are_joined_and_a_stop_string_becomes_a_list() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = {**HELLO, "messages": [{"role": "user", "content": parts}], "stop": "x"}
    request = ChatRequest.model_validate_json(json.dumps(body))
    assert request.messages[0].text() == "a\nb"
    assert request.stops == ("x",)


def test_an_empty_stop_string_stops_nothing() -> None:
    assert ChatRequest.model_validate({**HELLO, "stop": ""}).stops == ()
    assert ChatRequest.model_validate({**HELLO, "stop": ["", *"abcde"]}).stops == tuple("abcde")


def test_max_completion_tokens_is_the_newer_name() -> None:
    assert ChatRequest.model_validate({**HELLO, "max_tokens": 5}).token_limit == 5
    assert ChatRequest.model_validate({**HELLO, "max_completion_tokens": 7, "max_tokens": 5}).token_limit == 7
    assert ChatRequest.model_validate(HELLO).token_limit is None


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"typical_p": 0}, "typical_p"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"bad_words": [""]}, "bad_words.0"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0"),
        ({"stop": ["a"] * 65}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"stop": ["x"] * 10_000}, "stop"),
        ({"n": 17}, "n"),
        ({"n": 0}, "n"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.type",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "messages.0.tool_calls.0.function"),
        ({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"functions": [{}]}, "functions.0.name"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"truncation": "middle"}, "truncation"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"word": 1}}, "logit_bias.word"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"model": ""}, "model"),
    ],
)
def test_a_refusal_names_the_field(change: dict[str, object], param: str) -> None:
    error = refusal({**HELLO, **change})
    assert error.param == param
    assert error.status == 400
    assert param in error.message


def test_zero_penalties_as_many_clients_send_them_are_fine() -> None:
    body = {**HELLO, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "n": 1, "tools": []}
    assert ChatRequest.model_validate(body).n == 1


@pytest.mark.parametrize("raw", [b"", b"{", b'{"model": "\xff"}', b'{"model": "\\ud800"}', b"[" * 100_000], ids=repr)
def test_a_body_that_is_not_json_has_its_own_code(raw: bytes) -> None:
    error = refusal(raw)
    assert error.code == "invalid_json"
    assert "not valid JSON" in error.message


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert ChatRequest.model_validate_json(json.dumps({**HELLO, "max_tokens": 5.0, "seed": 1.0})).max_tokens == 5
    assert refusal({**HELLO, "max_tokens": 5.5}).param == "max_tokens"
    assert refusal({**HELLO, "max_tokens": True}).param == "max_tokens"


def test_biases_are_pairs_of_token_and_shift() -> None:
    body = {**HELLO, "logit_bias": {"5": 1, "007": -100.0}}
    assert ChatRequest.model_validate_json(json.dumps(body)).biases == ((5, 1.0), (7, -100.0))


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("one", ["one"]),
        (["one", "two"], ["one", "two"]),
        ([1, 2], [(1, 2)]),
        ([[1, 2], [3]], [(1, 2), (3,)]),
    ],
)
def test_completions_take_texts_and_token_ids(prompt: object, prompts: list[object]) -> None:
    request = CompletionRequest.model_validate_json(json.dumps({"model": "m", "prompt": prompt, "best_of": 1}))
    assert (request.prompts, request.max_tokens) == (prompts, 16)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt.1"),
        ({"prompt": [[]]}, "prompt.0"),
        ({"prompt": [-1]}, "prompt.0"),
        ({"prompt": ["x"] * 17, "n": 4}, "prompt"),
        ({"suffix": "b"}, "suffix"),
        ({"best_of": 3, "n": 2}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_a_refused_completion_names_the_field(change: dict[str, object], param: str) -> None:
    error = refusal({"model": "m", "prompt": "a", **change}, CompletionRequest)
    assert error.param == param


@pytest.mark.parametrize(
    "field",
    [
        {"prompt": [None] * 10_000},
        {"prompt": [[None]] * 10_000},
        {"prompt": [0, *[None] * 10_000]},
        {"stop": [None] * 10_000},
        {"stop": ["x"] * 10_000},
        {"logit_bias": {f"x{index}": None for index in range(10_000)}},
    ],
    ids=lambda field: next(iter(field)),
)
def test_thousands_of_wrong_elements_are_few_errors(field: dict[str, object]) -> None:
    """So that a body of megabytes is refused in moments."""
    with pytest.raises(ValidationError) as caught:
        CompletionRequest.model_validate_json(json.dumps({"model": "m", "prompt": "x", **field}))
    assert caught.value.error_count() < 10


def test_vectors_as_numbers_or_base64() -> None:
    numbers = embedding_list("m", [[0.5, -2.0]], 3, "float")
    assert numbers["data"] == [{"object": "embedding", "index": 0, "embedding": [0.5, -2.0]}]
    assert numbers["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    (coded,) = embedding_list("m", [[0.5, -2.0]], 3, "base64")["data"]
    assert coded["embedding"] == "AAAAPwAAAMA="  # 3f000000 and c0000000, lowest byte first


def test_error_objects() -> None:
    status, body = error_of(OverloadedError("full"))
    assert status == 429
    assert body == {"error": {"message": "full", "type": "rate_limit_error", "param": None, "code": "overloaded"}}
    status, body = error_of(EngineError("GenerationFailed", "broken"))
    assert status == 500
    assert body["error"] == {"message": "broken", "type": "server_error", "param": None, "code": "GenerationFailed"}
