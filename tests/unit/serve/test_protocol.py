"""Request bodies: what is read, what is refused, and how the refusal names the field."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from vicuna_server.errors import EngineError, OverloadedError, RequestError
from vicuna_server.protocol.chat import ChatRequest
from vicuna_server.protocol.completions import CompletionRequest
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
    assert request.stop is None


def test_content_parts_are_joined_and_a_stop_string_becomes_a_list() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = {**HELLO, "messages": [{"role": "user", "content": parts}], "stop": "x"}
    request = ChatRequest.model_validate_json(json.dumps(body))
    assert request.messages[0].text() == "a\nb"
    assert request.stop == ["x"]


def test_max_completion_tokens_is_the_newer_name() -> None:
    assert ChatRequest.model_validate({**HELLO, "max_tokens": 5}).token_limit == 5
    assert ChatRequest.model_validate({**HELLO, "max_completion_tokens": 7, "max_tokens": 5}).token_limit == 7
    assert ChatRequest.model_validate(HELLO).token_limit is None


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
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
def test_what_is_no_json_is_said_so(raw: bytes) -> None:
    error = refusal(raw)
    assert error.code == "invalid_json"
    assert "not valid JSON" in error.message


def test_completions_take_one_prompt() -> None:
    assert CompletionRequest.model_validate({"model": "m", "prompt": ["one"]}).prompt == "one"
    assert CompletionRequest.model_validate({"model": "m", "prompt": "one"}).max_tokens == 16
    assert refusal({"model": "m", "prompt": ["a", "b"]}, CompletionRequest).param == "prompt"
    assert refusal({"model": "m", "prompt": "a", "suffix": "b"}, CompletionRequest).param == "suffix"


def test_error_objects() -> None:
    status, body = error_of(OverloadedError("full"))
    assert status == 429
    assert body == {"error": {"message": "full", "type": "rate_limit_error", "param": None, "code": "overloaded"}}
    status, body = error_of(EngineError("GenerationFailed", "broken"))
    assert status == 500
    assert body["error"] == {"message": "broken", "type": "server_error", "param": None, "code": "GenerationFailed"}
