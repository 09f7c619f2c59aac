"""The official client: calls of tools and answers of a schema, whole and by its helpers, in chats and responses."""

import json
from typing import Any

import openai
import pytest
from conftest import SCRIPTED, Served
from pydantic import BaseModel
from weather import BOTH, QUESTION, ROOM, SCHEMA, TOOL, City, Place

ASKED: list[Any] = [{"role": "user", "content": QUESTION}]
GREETED: list[Any] = [{"role": "user", "content": "Hello"}]
CLOCK: Any = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
NAMED: Any = {"type": "function", "function": {"name": "clock"}}
LONG: Any = {"max_output_tokens": 200, "temperature": 0}
FLAT: Any = {"type": "function", "name": "weather", "strict": True, "parameters": SCHEMA}
FLAT_CLOCK: Any = {"type": "function", "name": "clock", "parameters": {"type": "object", "properties": {}}}


class Arguments(BaseModel):
    """Of the tool."""

    city: Place


@pytest.fixture
def client(actor: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=actor.base_url, api_key="none", max_retries=0, timeout=60)


@pytest.fixture
def ask(client: openai.OpenAI, actor: Served) -> Any:
    def ask(messages: list[Any] = ASKED, **options: Any) -> Any:
        options = {"tools": [TOOL, CLOCK], **ROOM, **options}
        return client.chat.completions.create(model=actor.model, messages=messages, **options).choices[0]

    return ask


@pytest.mark.parametrize(
    ("messages", "choice", "allowed"),
    [
        (ASKED, "auto", ["weather", "clock", None]),
        (GREETED, "auto", [None, "weather", "clock"]),
        (ASKED, openai.omit, ["weather", "clock", None]),
        (ASKED, "none", [None]),
        (GREETED, "required", ["weather", "clock"]),
        (ASKED, NAMED, ["clock"]),
    ],
    ids=["auto", "auto-text", "unsaid", "none", "required", "named"],
)
def test_the_choice_decides_what_is_called(
    ask: Any, actor: Served, messages: list[Any], choice: Any, allowed: list[str | None]
) -> None:
    answer = ask(messages, tool_choice=choice, parallel_tool_calls=False)
    calls = answer.message.tool_calls
    (called,) = [call.function.name for call in calls] if calls else [None]
    stand_in = actor.model == "scripted"
    assert called in (allowed[:1] if stand_in else allowed)
    ends = {"tool_calls"} if called else {"stop"} if stand_in else {"stop", "length"}  # SmolLM2 may go on with a text
    assert answer.finish_reason in ends
    assert (answer.message.content is None) == bool(called)


def test_calls_come_in_pieces_as_they_come_whole(client: openai.OpenAI, actor: Served, ask: Any) -> None:
    choice: Any = {**actor.first, **ROOM}
    (whole,) = ask(**choice).message.tool_calls
    with client.chat.completions.stream(model=actor.model, messages=ASKED, tools=[TOOL, CLOCK], **choice) as stream:
        events = list(stream)
        (call,) = stream.get_final_completion().choices[0].message.tool_calls or ()
    told = [event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"]
    assert "".join(told) == call.function.arguments == whole.function.arguments
    assert call.function.name == whole.function.name
    if call.function.name == "weather":
        assert Arguments.model_validate(call.function.parsed_arguments) == Arguments.model_validate_json("".join(told))
    assert call.id.startswith("call_")
    assert call.id != whole.id


@SCRIPTED
def test_two_calls_of_one_answer(client: openai.OpenAI, actor: Served, ask: Any) -> None:
    question: list[Any] = [{"role": "user", "content": BOTH}]
    whole = ask(question).message.tool_calls
    with client.chat.completions.stream(model=actor.model, messages=question, tools=[CLOCK, TOOL]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        streamed = stream.get_final_completion().choices[0].message.tool_calls or ()
    for calls in (whole, streamed, done):
        told = calls if calls is done else [call.function for call in calls]
        assert [call.name for call in told] == ["weather", "clock"]
        assert [call.arguments for call in told] == [call.function.arguments for call in whole]
    assert [event.index for event in done] == [0, 1]
    assert len({call.id for calls in (whole, streamed) for call in calls}) == 4
    (one,) = ask(question, parallel_tool_calls=False).message.tool_calls
    assert one.function.name == "weather"


@SCRIPTED
def test_two_calls_of_one_response(client: openai.OpenAI, actor: Served) -> None:
    fields: Any = {"model": actor.model, "input": BOTH, "tools": [FLAT_CLOCK, FLAT]}
    whole = client.responses.create(**fields).output
    with client.responses.stream(**fields) as stream:
        places = [event.output_index for event in stream if event.type == "response.output_item.done"]
        streamed = stream.get_final_response().output
    assert places == [0, 1]
    for items in (whole, streamed):
        calls: list[Any] = list(items)
        assert [(call.type, call.name) for call in calls] == [("function_call", "weather"), ("function_call", "clock")]
        assert [set(json.loads(call.arguments)) for call in calls] == [{"city"}, set()]
    assert len({ident for item in (*whole, *streamed) for ident in (item.id, getattr(item, "call_id", None))}) == 8


def test_a_pydantic_tool_is_parsed(client: openai.OpenAI, actor: Served) -> None:
    tool: Any = openai.pydantic_function_tool(Arguments, name="weather")
    call: Any = {"model": actor.model, "messages": ASKED, "tools": [tool], **actor.first, **ROOM}
    answer = client.chat.completions.parse(**call)
    (call,) = answer.choices[0].message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, Arguments)


def test_a_result_is_answered(ask: Any, actor: Served) -> None:
    called = ask(**actor.first).message
    (call,) = called.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    answer = ask([*ASKED, called.model_dump(exclude_none=True), result])
    assert answer.finish_reason == "stop"
    assert "sunny" in answer.message.content


def test_answers_of_a_schema(client: openai.OpenAI, actor: Served) -> None:
    call: Any = {"model": actor.model, "messages": GREETED, "response_format": City, **ROOM}
    whole = client.chat.completions.parse(**call).choices[0].message
    assert isinstance(whole.parsed, City)
    with client.chat.completions.stream(**call) as stream:
        streamed = stream.get_final_completion().choices[0].message
    assert (streamed.parsed, streamed.content) == (whole.parsed, whole.content)


def test_a_json_object(ask: Any) -> None:
    answer = ask(GREETED, tools=openai.omit, response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.message.content), dict)


def test_a_choice_is_kept_to(base_url: str, model: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
    call: Any = {"model": model, "messages": GREETED, "max_tokens": 16, "temperature": 1}
    for field in ({"structured_outputs": {"choice": ["yes", "no"]}}, {"guided_choice": ["yes", "no"]}):
        (answer,) = client.chat.completions.create(**call, extra_body=field).choices
        assert answer.message.content in {"yes", "no"}
        assert answer.finish_reason == "stop"


def test_a_call_is_of_the_schema(base_url: str, model: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
    place = {"type": "object", "properties": {"city": {"enum": ["Paris", "Oslo"]}}, "required": ["city"]}
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": place}}
    fields: Any = {"model": model, "messages": GREETED, "tools": [tool], "tool_choice": "required", "max_tokens": 256}
    with client.chat.completions.stream(**fields, parallel_tool_calls=False, temperature=1) as stream:
        (choice,) = stream.get_final_completion().choices
    (call,) = choice.message.tool_calls or ()
    assert json.loads(call.function.arguments)["city"] in {"Paris", "Oslo"}
    assert choice.finish_reason == "tool_calls"


def test_what_no_engine_can_keep_is_refused_by_its_place(ask: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    with pytest.raises(openai.BadRequestError, match=r"properties\.a\.uniqueItems"):
        ask(GREETED, tools=openai.omit, response_format=form)


def test_responses_with_a_tool_and_its_result(client: openai.OpenAI, actor: Served) -> None:
    fields: Any = {"model": actor.model, "tools": [FLAT], **LONG}
    with client.responses.stream(**fields, input=QUESTION, **actor.first) as stream:
        told = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        (call,) = stream.get_final_response().output
    assert call.type == "function_call"
    assert "".join(told) == call.arguments
    assert set(json.loads(call.arguments)) == {"city"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    items: Any = [{"role": "user", "content": QUESTION}, call.model_dump(exclude_none=True), result]
    answer = client.responses.create(**fields, input=items)
    assert "sunny" in answer.output_text
    assert answer.status == "completed"


@pytest.mark.parametrize("more", [{}, {"tools": [FLAT]}], ids=["alone", "beside tools"])
def test_responses_of_a_schema(client: openai.OpenAI, actor: Served, more: Any) -> None:
    fields: Any = {"model": actor.model, "input": "Hello", "text_format": City, **LONG, **more}
    if more and actor.model == "trained":
        fields["tool_choice"] = "none"  # SmolLM2 calls wherever it may
    whole = client.responses.parse(**fields)
    assert isinstance(whole.output_parsed, City)
    with client.responses.stream(**fields) as stream:
        *_, last = stream
        final = stream.get_final_response()
    assert last.type == "response.completed"
    assert final.output_parsed == whole.output_parsed
