"""Request fields of other servers: supported, refused by name, or known to be harmless."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vicuna_server.protocol.chat import ChatRequest
from vicuna_server.protocol.completions import CompletionRequest
from vicuna_server.protocol.embeddings import EmbeddingRequest
from vicuna_server.protocol.errors import from_validation
from vicuna_server.protocol.tokens import TokenizeRequest
from vicuna_server.protocol.unsupported_fields import IGNORED, REFUSED

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "hi"}
INPUT: dict[str, Any] = {"model": "m", "input": "hi"}
DOCS = Path(__file__).resolve().parents[3] / "docs" / "serving.md"
ROUTES = [(ChatRequest, CHAT), (CompletionRequest, TEXT)]
Route = type[ChatRequest] | type[CompletionRequest]

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
ASKED: dict[str, object] = {
    "guided_whitespace_pattern": " ?",
    "json_schema": SCHEMA,
    "grammar": 'root ::= "yes"',
    "format": "json",
    "regex": "[0-9]+",
    "ebnf": 'root ::= "yes"',
    "decoder_input_details": True,
    "audio": {"voice": "x", "format": "wav"},
    "web_search_options": {},  # with OpenAI's defaults
    "lora": "x",
    "use_beam_search": True,
    "best_of": 3,
    "length_penalty": 2.0,
    "logits_processors": ["x"],
    "mirostat": 2,
    "top_a": 0.5,
    "dry_multiplier": 0.8,
    "repeat_penalty": 1.5,
    "num_ctx": 100,
    "n_predict": 3,
    "max_new_tokens": 3,
    "truncate_prompt_tokens": 5,
    "chat_template": "{{ 'x' }}",
    "add_generation_prompt": False,
    "do_sample": False,
    "return_token_ids": True,
    "extra_body": {"guided_json": SCHEMA},
    "options": {"temperature": 0},
    "moderation": {"model": "omni-moderation-latest", "policy": {"output": {"mode": "block"}}},
    "repetition_detection": {"max_pattern_size": 4, "min_count": 3},
    "watermarking": True,
    "logprob_token_ids": [1, 2],
    "return_token_offsets": True,
    "vllm_xargs": {"a": 1},
    "input": "hi",
}


def test_ignored_fields_are_documented() -> None:
    (section,) = re.findall(r"^### What is ignored\n(.*?)^##", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(\w+)`", section)) >= IGNORED


@pytest.mark.parametrize(
    ("name", "value", "harmless"),
    [
        ("dimensions", 64, None),
        ("truncate_prompt_tokens", 5, None),
        ("truncate", "END", "NONE"),
        ("messages", CHAT["messages"], []),
        ("input_type", "query", None),
        ("normalize", False, True),
        ("use_activation", False, True),
        ("embed_dtype", "float16", "float32"),
        ("endianness", "big", "little"),
        ("add_special_tokens", False, True),
        ("chat_template", "{{ 'x' }}", ""),
        ("lora", "x", None),
    ],
)
def test_fields_that_would_change_a_vector_are_refused_by_name(name: str, value: object, harmless: object) -> None:
    assert EmbeddingRequest.model_validate_json(json.dumps({**INPUT, name: harmless, "user": "u"})).unknown == []
    with pytest.raises(ValidationError) as caught:
        EmbeddingRequest.model_validate_json(json.dumps({**INPUT, name: value}))
    assert from_validation(caught.value).param == name


@pytest.mark.parametrize(
    ("name", "value"), [("chat_template", "x"), ("functions", [{"name": "f"}]), ("return_token_strs", True)]
)
def test_fields_that_would_change_a_prompts_tokens_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        TokenizeRequest.model_validate_json(json.dumps({**TEXT, name: value}))


@pytest.mark.parametrize("name", ["messages", "max_completion_tokens", "top_logprobs", "tools", "functions"])
def test_a_chats_names_are_not_ignored_by_completions(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name}: "):
        asked(CompletionRequest, TEXT, **{name: 5 if "_" in name else [1]})


@pytest.mark.parametrize(
    "message", [{"content": [{"type": "refusal", "refusal": "I won't."}]}, {"content": None, "refusal": "I won't."}]
)
def test_an_assistants_refusal_counts_as_its_text(message: dict[str, object]) -> None:
    said = [*CHAT["messages"], {"role": "assistant", **message}, *CHAT["messages"]]
    assert asked(ChatRequest, CHAT, messages=said).messages[1].text() == "I won't."  # type: ignore[union-attr]


def asked(model: Route, base: dict[str, Any], **more: object) -> ChatRequest | CompletionRequest:
    return model.model_validate_json(json.dumps({**base, **more}))


@pytest.mark.parametrize(("model", "base"), ROUTES, ids=["chat", "completions"])
@pytest.mark.parametrize(("name", "value"), ASKED.items(), ids=ASKED)
def test_fields_that_would_change_the_response_are_refused_by_name(
    model: Route, base: dict[str, Any], name: str, value: object
) -> None:
    with pytest.raises(ValidationError) as caught:
        asked(model, base, **{name: value})
    error = from_validation(caught.value)
    assert (error.status, error.param) == (400, name)
    assert error.message.startswith(f"{name}: ")


@pytest.mark.parametrize(("model", "base"), ROUTES, ids=["chat", "completions"])
@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_null_and_empty_values_are_accepted(model: Route, base: dict[str, Any], value: object) -> None:
    names = ["json_schema", "regex", "mirostat", "lora", "use_beam_search", "n_predict", "chat_template", "format"]
    assert asked(model, base, **dict.fromkeys(names, value)).unknown == []


@pytest.mark.parametrize(("model", "base"), ROUTES, ids=["chat", "completions"])
def test_explicit_defaults_are_accepted(model: Route, base: dict[str, Any]) -> None:
    written = {"length_penalty": 1.0, "num_beams": 1, "repeat_penalty": 1.0, "do_sample": True, "modalities": ["text"]}
    assert asked(model, base, **written, add_generation_prompt=True, response_format={"type": "text"}).unknown == []


@pytest.mark.parametrize(("model", "base"), ROUTES, ids=["chat", "completions"])
def test_unknown_fields_are_reported_by_name(model: Route, base: dict[str, Any]) -> None:
    body = asked(model, base, brand_new=1, user="x", stops=["x"], choices=7, store=True)
    assert body.unknown == ["brand_new", "stops", "choices"]
    assert (body.choices, body.stops) == (1, ())  # properties of ours are not set by a body


OF_CHATS = {"tool_choice", "function_call", "parallel_tool_calls", "include_reasoning", "chat_template_kwargs"}
"""They mean something in a chat, and nothing elsewhere."""
OF_GENERATIONS = {"service_tier", "priority"}
"""They mean something where text is generated, and nothing for vectors and counts."""


def test_no_field_is_both_refused_and_ignored() -> None:
    assert not set(REFUSED) & IGNORED
    for model in (ChatRequest, CompletionRequest):
        assert not set(model.model_fields) & IGNORED - OF_CHATS - OF_GENERATIONS


@pytest.mark.parametrize("model", [ChatRequest, TokenizeRequest])
@pytest.mark.parametrize(("role", "continued"), [("user", False), ("assistant", True)])
def test_continuation_fields_are_accepted_only_as_the_last_message_implies(
    model: type[ChatRequest] | type[TokenizeRequest], role: str, continued: bool
) -> None:
    """vLLM needs both fields to continue a message, so clients send both."""
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}, {"role": role, "content": "b"}]}
    fields = {"continue_final_message": continued, "add_generation_prompt": not continued}
    assert model.model_validate_json(json.dumps({**body, **fields})).unknown == []
    for name, value in fields.items():
        with pytest.raises(ValidationError, match=name):
            model.model_validate_json(json.dumps({**body, name: not value}))
