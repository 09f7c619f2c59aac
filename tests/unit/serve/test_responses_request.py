"""The body of `/v1/responses`: what is taken, and what is refused by name."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from vicuna_server.api.conversation import choice_of, tools_of
from vicuna_server.constraints import AnyJsonObject, JsonSchema
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Tool
from vicuna_server.protocol.chat import ChatRequest
from vicuna_server.protocol.envelope import Envelope
from vicuna_server.protocol.errors import from_validation
from vicuna_server.protocol.responses.request import LOGPROBS, ResponsesRequest
from vicuna_server.protocol.responses.response import response_object
from vicuna_server.tools.planning import ToolChoice

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
F = {"type": "function", "name": "f", "description": "F.", "parameters": PARAMETERS, "strict": True}
G = {"type": "function", "name": "g"}


def taken(**fields: Any) -> ResponsesRequest:
    return ResponsesRequest.model_validate_json(json.dumps({"model": "m", "input": "hi", **fields}))


def refused(**fields: Any) -> RequestError:
    with pytest.raises(ValidationError) as caught:
        taken(**fields)
    return from_validation(caught.value)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"background": True}, "background", "stream to true"),
        ({"conversation": "conv_1"}, "conversation", "previous_response_id"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "instructions"),
        ({"context_management": [{"type": "compaction"}]}, "context_management", "truncation"),
        ({"messages": [{}]}, "messages", "called input"),
        ({"response_format": {"type": "json_object"}}, "response_format", "text.format"),
        ({"max_tokens": 5}, "max_tokens", "max_output_tokens"),
        ({"max_completion_tokens": 5}, "max_completion_tokens", "max_output_tokens"),
        ({"max_output_tokens": 0}, "max_output_tokens", "greater than or equal to 1"),
        ({"n": 2}, "n", "one answer"),
        ({"logprobs": True}, "logprobs", LOGPROBS),
        ({"top_logprobs": 3}, "top_logprobs", LOGPROBS),
        ({"prompt_logprobs": 3}, "prompt_logprobs", "/v1/completions"),
        ({"include": ["file_search_call.results"]}, "include", "cannot be included"),
        ({"stream_options": {}}, "stream_options", "stream: true"),
        ({"metadata": {"a": 1}}, "metadata.a", "string"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "at most 16"),
        ({"input": []}, "input", "at least 1"),
        ({"input": [3]}, "input.0", "an item is an object"),
        ({"input": [{"type": "web_search_call"}]}, "input.0", "built-in tool"),
        ({"input": [{"type": "compaction"}]}, "input.0", "'compaction'"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role", "'user'"),
        ({"input": [{"role": "user"}]}, "input.0.content", "required"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.type", "images are"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input.0.content.0.type", "files are"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input.0.content.0.type", "audio is"),
        ({"tools": [{"type": "function"}]}, "tools.0.name", "required"),
        ({"tools": [G] * 129}, "tools", "at most 128"),
        ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice", "runs no tools itself"),
        ({"text": {"format": {"type": "xml"}}}, "text.format", "json_schema"),
        ({"truncation": "last"}, "truncation", "'disabled' or 'auto'"),
        ({"moderation": {"model": "x"}}, "moderation", "not supported"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    error = refused(**fields)
    assert (error.param, error.status) == (param, 400)
    assert words in error.message


BUILT_IN = ["web_search", "web_search_preview", "file_search", "computer_use_preview", "code_interpreter", "mcp"]


@pytest.mark.parametrize("kind", [*BUILT_IN, "image_generation", "local_shell", "shell", "apply_patch", "custom"])
def test_tools_that_a_server_would_run_are_refused_by_name(kind: str) -> None:
    error = refused(tools=[F, {"type": kind, "name": "x"}])
    assert error.param == "tools.1"
    assert repr(kind) in error.message


def test_what_asks_for_nothing_is_accepted() -> None:
    body = taken(
        background=False,
        conversation=None,
        prompt=None,
        n=1,
        user="u",
        service_tier="auto",
        prompt_cache_key="k",
        safety_identifier="s",
        metadata={"a": "b"},
        reasoning={"effort": "low", "summary": "auto"},
        stream=True,
        stream_options={"include_obfuscation": False},
        include=["reasoning.encrypted_content"],
        text={"verbosity": "low"},
        max_tool_calls=3,
        prompt_cache_retention="24h",
        something_new=1,
    )
    assert body.unknown == ["something_new"]
    assert body.alternatives is None


def test_log_probabilities_are_asked_for_by_include() -> None:
    assert taken(include=[LOGPROBS]).alternatives == 0
    assert taken(include=[LOGPROBS], top_logprobs=3).alternatives == 3


def test_a_response_tells_its_parameters_again() -> None:
    body = taken(
        instructions="be kind",
        tools=[F, G],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "s", "schema": PARAMETERS, "strict": True}},
        temperature=0.5,
        top_p=0.9,
        truncation="auto",
        max_output_tokens=7,
        metadata={"a": "b"},
        reasoning={"effort": "low"},
        user="u",
        previous_response_id="resp_1",
    )
    told = response_object(Envelope("resp_2", "m", 5), body, store=True)
    assert (told["id"], told["object"], told["created_at"], told["status"]) == ("resp_2", "response", 5, "in_progress")
    assert told["tools"] == [F, {**G, "description": None, "parameters": None, "strict": None}]
    assert told["tool_choice"] == {"type": "function", "name": "f"}
    assert told["text"] == {"format": {"type": "json_schema", "name": "s", "schema": PARAMETERS, "strict": True}}
    assert told["reasoning"] == {"effort": "low", "summary": None}
    assert (told["instructions"], told["truncation"], told["store"]) == ("be kind", "auto", True)
    assert (told["temperature"], told["top_p"], told["max_output_tokens"]) == (0.5, 0.9, 7)
    assert (told["metadata"], told["user"], told["previous_response_id"]) == ({"a": "b"}, "u", "resp_1")
    assert (told["parallel_tool_calls"], told["usage"], told["error"]) == (False, None, None)
    assert list(told)[-1] == "usage"  # where the gateway looks for it
    plain = response_object(Envelope("resp_2", "m"), taken(), store=False)
    assert (plain["text"], plain["tool_choice"], plain["tools"]) == ({"format": {"type": "text"}}, "auto", [])
    assert (plain["temperature"], plain["top_p"], plain["truncation"]) == (1.0, 1.0, "disabled")


def use(choice: Any, *, parallel: bool = True) -> tuple[tuple[Tool, ...], ToolChoice]:
    body = taken(tools=[F, G], tool_choice=choice, parallel_tool_calls=parallel)
    return tools_of(body.offered), choice_of(body)


def test_a_choice_says_which_tools_may_be_called() -> None:
    tools = (Tool("f", "F.", PARAMETERS, strict=True), Tool("g", "", {"type": "object", "properties": {}}))
    assert use("auto") == (tools, ToolChoice("auto"))
    assert use("none") == (tools, ToolChoice("none"))
    assert use("required", parallel=False) == (tools, ToolChoice("required", parallel=False))
    assert use({"type": "function", "name": "g"}) == (tools, ToolChoice("required", ("g",), parallel=False))
    only = [{"type": "function", "name": "g"}]
    assert use({"type": "allowed_tools", "mode": "auto", "tools": only}) == (tools, ToolChoice("auto", ("g",)))
    assert use({"type": "allowed_tools", "mode": "required", "tools": only}) == (tools, ToolChoice("required", ("g",)))
    assert (tools_of(taken().offered), choice_of(taken())) == ((), ToolChoice("auto"))


@pytest.mark.parametrize(
    ("tools", "choice", "param", "words"),
    [
        ([F, F], "auto", "tools", "two of them are called 'f'"),
        ([], "required", "tool_choice", "there are no tools"),
        ([F, G], {"type": "function", "name": "h"}, "tool_choice", "'h' is none of the tools, which are f, g"),
        ([F], {"type": "allowed_tools", "tools": [{"type": "function", "name": "h"}]}, "tool_choice", "which are f"),
    ],
)
def test_a_choice_must_be_among_the_tools(tools: list[Any], choice: Any, param: str, words: str) -> None:
    error = refused(tools=tools, tool_choice=choice)
    assert (error.param, error.status) == (param, 400)
    assert words in error.message


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"name": "a b"}, "name", "'a b' is not a tool's name"),
        ({"description": "x" * (2**14 + 1)}, "description", "at most 16384"),
        ({"parameters": {"type": "string"}}, "parameters", "must be object"),
        ({"parameters": {"x": "y" * 2**16}}, "parameters", "at most 65536"),
    ],
)
def test_a_function_has_the_same_bounds_as_in_a_chat(change: dict[str, Any], param: str, words: str) -> None:
    error = refused(tools=[{**G, **change}])
    assert error.param == f"tools.0.{param}"
    assert words in error.message
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate(
            {
                "messages": [{"role": "user", "content": "x"}],
                "tools": [{"type": "function", "function": {**G, **change}}],
            }
        )
    assert words in from_validation(caught.value).message


def test_a_function_at_its_bounds_is_taken() -> None:
    largest = {"x": "y" * (2**16 - len('{"x": ""}'))}
    taken(tools=[{**G, "description": "x" * 2**14, "parameters": largest}])


def test_the_format_of_the_text_becomes_a_constraint() -> None:
    assert taken().format_constraint is taken(text={"format": {"type": "text"}}).format_constraint is None
    assert taken(text={"format": {"type": "json_object"}}).format_constraint == AnyJsonObject()
    schema = {"type": "json_schema", "name": "s", "schema": PARAMETERS}
    constraint = taken(text={"format": schema}).format_constraint
    assert isinstance(constraint, JsonSchema)
    assert (json.loads(constraint.schema), constraint.param) == (PARAMETERS, "text.format.schema")
