"""What a request's tools mean: what the prompt describes, what the engine enforces, what is read."""

import json
from dataclasses import replace

import pytest

from vicuna_server.constraints import AnyJsonObject, CallForm, Choice, JsonSchema, ToolCalls
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Tool
from vicuna_server.tools.chat_format import PLAIN, ChatFormat
from vicuna_server.tools.formats import HERMES, LLAMA, MISTRAL
from vicuna_server.tools.output import CallArguments, CallBegin, CallEnd, Text
from vicuna_server.tools.planning import AnswerPlan, ToolChoice, plan_answer

TOOLS = (Tool("weather", "Of a city", {"properties": {"city": {"type": "string"}}}), Tool("time", "", {}))
THINKING = replace(PLAIN, thinks=True)
AUTO, REQUIRED, NONE = ToolChoice(), ToolChoice("required"), ToolChoice("none")


def test_without_tools_there_is_nothing_to_read() -> None:
    plan = plan_answer(PLAIN, (), AUTO)
    assert (plan, plan.parser("a"), plan.shown) == (AnswerPlan(), None, ())


def test_none_leaves_out_the_tools() -> None:
    assert plan_answer(PLAIN, TOOLS, NONE) == AnswerPlan()


def test_auto_is_a_trigger_and_a_form_for_each_tool() -> None:
    plan = plan_answer(ChatFormat(HERMES, native=True), TOOLS, AUTO)
    assert plan.tools == TOOLS
    assert plan.constraint == ToolCalls(
        "<tool_call>",
        (
            CallForm(
                '<tool_call>\n{"name": "weather", "arguments": ',
                '{"type": "object", "properties": {"city": {"type": "string"}}}',
                "}\n</tool_call>",
                "tools.0.function.parameters",
            ),
            CallForm(
                '<tool_call>\n{"name": "time", "arguments": ',
                '{"type": "object"}',
                "}\n</tool_call>",
                "tools.1.function.parameters",
            ),
        ),
        between="\n",
    )


def test_a_named_tool_is_the_only_one_that_may_be_called() -> None:
    plan = plan_answer(PLAIN, TOOLS, ToolChoice("required", ("time",), parallel=False))
    assert isinstance(plan.constraint, ToolCalls)
    assert (plan.constraint.required, plan.constraint.parallel, len(plan.constraint.forms)) == (True, False, 1)
    assert (plan.names, plan.tools) == (frozenset({"time"}), TOOLS)


def test_a_constraint_writes_one_call_where_a_family_writes_lists() -> None:
    constraint = plan_answer(ChatFormat(MISTRAL, native=True), TOOLS, REQUIRED).constraint
    assert isinstance(constraint, ToolCalls)
    assert not constraint.parallel


def test_llamas_trigger_is_common_text_so_auto_is_not_constrained() -> None:
    model = ChatFormat(LLAMA, native=True)
    assert plan_answer(model, TOOLS, AUTO).constraint is None
    assert isinstance(plan_answer(model, TOOLS, REQUIRED).constraint, ToolCalls)
    parser = plan_answer(model, TOOLS, AUTO).parser("a")
    assert parser is not None
    assert [*parser.push('{"name": "time", "parameters": {"a"'), *parser.end()] == [
        Text('{"name": "time", "parameters": {"a"')
    ]


@pytest.mark.parametrize("text", [AnyJsonObject(), JsonSchema("{}")])
def test_a_format_of_the_text_stands_beside_calls(text: AnyJsonObject | JsonSchema) -> None:
    for model in (PLAIN, ChatFormat(LLAMA, native=True)):
        constraint = plan_answer(model, TOOLS, AUTO, text).constraint
        assert isinstance(constraint, ToolCalls)
        assert constraint.otherwise == text
    required = plan_answer(PLAIN, TOOLS, REQUIRED, text).constraint
    assert isinstance(required, ToolCalls)
    assert required.otherwise is None
    assert plan_answer(PLAIN, TOOLS, NONE, text) == AnswerPlan(constraint=text)


def test_another_constraint_has_no_meaning_beside_tools() -> None:
    with pytest.raises(RequestError, match="beside tools") as caught:
        plan_answer(PLAIN, TOOLS, AUTO, Choice(("a", "b"), "guided_choice"))
    assert caught.value.param == "guided_choice"


def test_a_model_does_not_think_where_its_first_letter_is_constrained() -> None:
    assert plan_answer(THINKING, (), AUTO).thinks
    assert plan_answer(THINKING, TOOLS, AUTO).thinks
    assert not plan_answer(THINKING, TOOLS, REQUIRED).thinks
    assert not plan_answer(THINKING, (), AUTO, AnyJsonObject()).thinks
    assert not plan_answer(THINKING, TOOLS, AUTO, AnyJsonObject()).thinks


def test_a_required_call_is_read_also_where_the_prompt_has_opened_reasoning() -> None:
    parser = plan_answer(THINKING, TOOLS, REQUIRED).parser("a", thinking=True)
    assert parser is not None
    begin, arguments, end = parser.push('<tool_call>{"name": "time", "arguments": {}}</tool_call>')
    assert isinstance(begin, CallBegin)
    assert (begin.name, arguments, end) == ("time", CallArguments(0, "{}"), CallEnd(0))


def test_marks_that_may_be_special_tokens_are_shown() -> None:
    assert plan_answer(THINKING, (), AUTO).shown == ("<think>", "</think>")
    assert plan_answer(ChatFormat(MISTRAL, native=True), TOOLS, AUTO).shown == ("[TOOL_CALLS]",)


def test_the_schema_is_json() -> None:
    tool = Tool("f", "", {"type": "object", "properties": {"é": {"const": '"'}}})
    constraint = plan_answer(PLAIN, [tool], AUTO).constraint
    assert isinstance(constraint, ToolCalls)
    assert json.loads(constraint.forms[0].schema) == tool.parameters
