"""`response_format`, `structured_outputs` and `guided_*` as constraints, and the fields that stand against them."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from vicuna_server.constraints import (
    AnyJsonObject,
    CallForm,
    Choice,
    Constraint,
    Grammar,
    JsonSchema,
    Regex,
    ToolCalls,
)
from vicuna_server.errors import RequestError
from vicuna_server.protocol.chat import ChatRequest
from vicuna_server.protocol.completions import CompletionRequest
from vicuna_server.protocol.errors import from_validation

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "hi"}
SCHEMA = {"type": "object"}
TEXT_OF_SCHEMA = json.dumps(SCHEMA)
NAMED = {"name": "n", "description": "d", "schema": SCHEMA}


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({}, None),
        ({"response_format": None, "structured_outputs": None, "guided_json": None}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, AnyJsonObject()),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            JsonSchema(TEXT_OF_SCHEMA, "response_format.schema"),
        ),
        *(
            (
                {"response_format": {"type": "json_schema", "json_schema": {**NAMED, "strict": strict}}},
                JsonSchema(TEXT_OF_SCHEMA, "response_format.json_schema.schema"),
            )
            for strict in (True, False, None)
        ),
        ({"structured_outputs": {"json": SCHEMA}}, JsonSchema(TEXT_OF_SCHEMA, "structured_outputs.json")),
        (
            {"structured_outputs": {"json": TEXT_OF_SCHEMA, "disable_any_whitespace": True}},
            JsonSchema(TEXT_OF_SCHEMA, "structured_outputs.json", whitespace=False),
        ),
        ({"structured_outputs": {"json_object": True}}, AnyJsonObject()),
        ({"structured_outputs": {"regex": "a+"}}, Regex("a+", "structured_outputs.regex")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, Choice(("a", "b"), "structured_outputs.choice")),
        ({"structured_outputs": {"grammar": "g"}}, Grammar("g", "structured_outputs.grammar")),
        ({"guided_json": SCHEMA}, JsonSchema(TEXT_OF_SCHEMA, "guided_json")),
        ({"guided_regex": "a"}, Regex("a", "guided_regex")),
        ({"guided_choice": ["a"]}, Choice(("a",), "guided_choice")),
        ({"guided_grammar": "g"}, Grammar("g", "guided_grammar")),
    ],
)
def test_each_field_is_a_constraint_on_both_routes(fields: dict[str, Any], constraint: Constraint | None) -> None:
    assert ChatRequest.model_validate({**CHAT, **fields}).format_constraint == constraint
    assert CompletionRequest.model_validate({**TEXT, **fields}).format_constraint == constraint


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "structural_tag"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": [1]}}},
            "response_format.json_schema.schema",
        ),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"json": SCHEMA, "regex": "a"}}, "structured_outputs"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "whitespace_pattern": " "}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a"] * 2000}}, "structured_outputs.choice"),
        ({"structured_outputs": {"regex": "a" * 100_000}}, "structured_outputs.regex"),
        ({"guided_json": True}, "guided_json"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
        ({"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}}, "structured_outputs"),
    ],
)
def test_what_is_not_one_format_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate({**CHAT, **fields})
    error = from_validation(caught.value)
    assert error.param == param
    assert error.message.startswith(f"{param}: ")


CALLS = ToolCalls("<", (CallForm("<", "{}", ""),))
AGAINST: dict[str, Any] = {
    "min_tokens": 1,
    "ignore_eos": True,
    "allowed_token_ids": [1],
    "bad_words": ["a"],
    "stop": ["x"],
}


@pytest.mark.parametrize(("name", "value"), AGAINST.items())
def test_a_field_that_could_cut_a_format_or_leave_no_token_is_refused(name: str, value: Any) -> None:
    body = ChatRequest.model_validate({**CHAT, name: value})
    for constraint in (AnyJsonObject(), Choice(("a",)), ToolCalls("<", CALLS.forms, required=True)):
        with pytest.raises(RequestError) as caught:
            body.check_beside(constraint)
        assert (caught.value.param, caught.value.status) == (name, 400)
    if name == "stop":
        body.check_beside(CALLS)  # the text around calls may end there
    else:
        with pytest.raises(RequestError, match=name):
            body.check_beside(CALLS)


def test_values_that_change_nothing_stand_against_no_format() -> None:
    harmless = {"min_tokens": 0, "ignore_eos": False, "bad_words": [], "stop": ["", ""], "logit_bias": {"1": 5}, "n": 3}
    ChatRequest.model_validate({**CHAT, **harmless}).check_beside(AnyJsonObject())
