"""Fields of other servers' dialects: done, refused by name, or known to do nothing."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from vicuna_server.protocol.chat import ChatRequest
from vicuna_server.protocol.completions import CompletionRequest
from vicuna_server.protocol.dialects import IGNORED, REFUSED
from vicuna_server.protocol.errors import from_validation

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "hi"}
ROUTES = [(ChatRequest, CHAT), (CompletionRequest, TEXT)]
Route = type[ChatRequest] | type[CompletionRequest]

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
ASKED: dict[str, object] = {
    "guided_json": SCHEMA,
    "guided_choice": ["yes", "no"],
    "structured_outputs": {"json": SCHEMA},
    "response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA}},
    "json_schema": SCHEMA,
    "grammar": 'root ::= "yes"',
    "format": "json",
    "regex": "[0-9]+",
    "ebnf": 'root ::= "yes"',
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "decoder_input_details": True,
    "audio": {"voice": "x", "format": "wav"},
    "web_search_options": {"search_context_size": "low"},
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
}


def asked(model: Route, base: dict[str, Any], **more: object) -> ChatRequest | CompletionRequest:
    return model.model_validate_json(json.dumps({**base, **more}))


@pytest.mark.parametrize(("model", "base"), ROUTES, ids=["chat", "completions"])
@pytest.mark.parametrize(("name", "value"), ASKED.items(), ids=ASKED)
def test_what_would_change_the_answer_is_refused_by_name(
    model: Route, base: dict[str, Any], name: str, value: object
) -> None:
    with pytest.raises(ValidationError) as caught:
        asked(model, base, **{name: value})
    error = from_validation(caught.value)
    assert (error.status, error.param) == (400, name)
    assert error.message.startswith(f"{name}: ")


@pytest.mark.parametrize(("model", "base"), ROUTES, ids=["chat", "completions"])
@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_a_value_that_asks_for_nothing_is_no_matter(model: Route, base: dict[str, Any], value: object) -> None:
    names = ["guided_json", "regex", "mirostat", "lora", "use_beam_search", "n_predict", "chat_template", "format"]
    assert asked(model, base, **dict.fromkeys(names, value)).unknown == []


@pytest.mark.parametrize(("model", "base"), ROUTES, ids=["chat", "completions"])
def test_defaults_that_clients_write_out_are_no_matter(model: Route, base: dict[str, Any]) -> None:
    written = {"length_penalty": 1.0, "num_beams": 1, "repeat_penalty": 1.0, "do_sample": True, "modalities": ["text"]}
    assert asked(model, base, **written, add_generation_prompt=True, response_format={"type": "text"}).unknown == []


@pytest.mark.parametrize(("model", "base"), ROUTES, ids=["chat", "completions"])
def test_what_nobody_knows_is_told_by_its_name(model: Route, base: dict[str, Any]) -> None:
    body = asked(model, base, brand_new=1, user="x", stops=["x"], choices=7, store=True)
    assert body.unknown == ["brand_new", "stops", "choices"]
    assert (body.choices, body.stops) == (1, ())  # a stranger's names do not take the place of ours


def test_no_field_is_both_refused_and_ignored() -> None:
    assert not set(REFUSED) & IGNORED
    for model in (ChatRequest, CompletionRequest):
        assert not set(model.model_fields) & IGNORED - {"tool_choice", "function_call"}


@pytest.mark.parametrize(
    ("role", "value", "taken"), [("user", False, True), ("user", True, False), ("assistant", True, True)]
)
def test_continue_final_message_says_what_is_done_or_is_refused(role: str, value: bool, taken: bool) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}, {"role": role, "content": "b"}]}
    if taken:
        assert asked(ChatRequest, body, continue_final_message=value)
        return
    with pytest.raises(ValidationError, match="continue_final_message"):
        asked(ChatRequest, body, continue_final_message=value)
