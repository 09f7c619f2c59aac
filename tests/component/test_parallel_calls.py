"""Several calls of one answer: chats and responses, whole and streamed, read by the official client.

Each is asked of a server and through a gateway. The scripted engine calls what it is asked for; the built-in one is a
random model that the grammar keeps to calls, with a template in the style of Hermes.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest

from support.gateway import gateway
from support.serving import MODEL, openai_client, running, tiny_engine, write_tiny_model
from support.tool_templates import QWEN_STYLE
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTIONS: list[Any] = [{"name": name, "parameters": PARAMETERS} for name in ("clock", "weather")]
TOOLS: list[Any] = [{"type": "function", "function": each} for each in FUNCTIONS]
FLAT: list[Any] = [{"type": "function", **each} for each in FUNCTIONS]
QUESTION = "Tell me the weather and what the clock says."


class Call(NamedTuple):
    """A call as a client has read it."""

    ident: str
    name: str
    arguments: str


class Asked(NamedTuple):
    """A client, and what a request says beside its question."""

    client: openai.AsyncOpenAI
    fields: dict[str, Any]
    names: list[str] | None
    """Of the tools that are called, in order; None: the model draws them."""


@pytest.fixture(params=["scripted", "builtin"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    if request.param == "scripted":
        yield ScriptedEngine(ScriptedSettings())
        return
    async with tiny_engine(write_tiny_model(tmp_path / "model", chat_template=QWEN_STYLE)) as tiny:
        yield tiny


@pytest.fixture(params=[False, True], ids=["server", "gateway"])
async def asked(request: pytest.FixtureRequest, engine: Any) -> AsyncIterator[Asked]:
    async with running(engine) as live, gateway() as door:
        door.route(live.url)
        where = door.url if request.param else live.url
        async with openai_client(where) as client:
            if isinstance(engine, ScriptedEngine):
                yield Asked(client, {}, ["weather", "clock"])
            else:
                yield Asked(client, await some_calls(engine), None)


async def some_calls(engine: Any) -> dict[str, Any]:
    """Return fields by which a model goes on with a newline behind a call, and with no further one behind some."""
    (newline,) = await engine.tokenize("\n", add_special_tokens=False)
    drawing = {"logit_bias": {str(newline): 20}, "frequency_penalty": 2, "temperature": 1, "seed": 1}
    return {"tool_choice": "required", "extra_body": drawing}


def checked(calls: list[Call], names: list[str] | None) -> list[tuple[str, str]]:
    """Return names and arguments of calls that are as they must be."""
    assert len({call.ident for call in calls}) == len(calls) >= 2
    assert all(json.loads(call.arguments)["city"] in ("Oslo", "Rome") for call in calls)
    told = [call.name for call in calls]
    assert told == names if names else {*told} <= {"weather", "clock"}
    return [(call.name, call.arguments) for call in calls]


def of_message(message: Any) -> list[Call]:
    return [Call(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]


async def test_chats(asked: Asked) -> None:
    fields: Any = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "tools": TOOLS, **asked.fields}
    answer = await asked.client.chat.completions.create(**fields)
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    whole = of_message(choice.message)
    async with asked.client.chat.completions.stream(**fields) as stream:
        deltas = [call async for event in stream if event.type == "chunk" for call in _deltas(event.chunk)]
        (last,) = (await stream.get_final_completion()).choices
    streamed = of_message(last.message)
    assert last.finish_reason == "tool_calls"
    assert checked(streamed, asked.names) == checked(whole, asked.names)
    assert not {call.ident for call in whole} & {call.ident for call in streamed}
    # A call comes as a whole before the next; its first delta alone has id and name.
    indices = [delta.index for delta in deltas]
    assert indices == sorted(indices)
    begun = [(delta.index, delta.id, delta.function.name) for delta in deltas if delta.id]
    assert begun == [(index, call.ident, call.name) for index, call in enumerate(streamed)]


def _deltas(chunk: Any) -> list[Any]:
    return [call for choice in chunk.choices for call in choice.delta.tool_calls or ()]


async def test_responses(asked: Asked) -> None:
    fields: Any = {"model": MODEL, "input": QUESTION, "tools": FLAT, **asked.fields}
    response = await asked.client.responses.create(**fields)
    whole = of_items(response.output)
    async with asked.client.responses.stream(**fields) as stream:
        events: list[Any] = [event async for event in stream]
        last: Any = await stream.get_final_response()
    streamed = of_items(last.output)
    assert checked(streamed, asked.names) == checked(whole, asked.names)
    assert not {call.ident for call in whole} & {call.ident for call in streamed}
    added = [event for event in events if event.type == "response.output_item.added"]
    done = [event for event in events if event.type == "response.output_item.done"]
    for place in (added, done):
        assert [event.output_index for event in place] == [*range(len(streamed))]
        assert [(event.item.id, event.item.call_id) for event in place] == [
            (item.id, item.call_id) for item in last.output
        ]
    told = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert [(event.item_id, event.arguments) for event in told] == [(item.id, item.arguments) for item in last.output]
    assert len({item.id for item in last.output}) == len(streamed)


def of_items(items: Any) -> list[Call]:
    assert {item.type for item in items} == {"function_call"}
    return [Call(item.call_id, item.name, item.arguments) for item in items]


async def test_one_call_where_no_more_are_wanted(asked: Asked) -> None:
    question: Any = [{"role": "user", "content": QUESTION}]
    fields: Any = {"model": MODEL, "parallel_tool_calls": False, **asked.fields}
    (choice,) = (await asked.client.chat.completions.create(**fields, messages=question, tools=TOOLS)).choices
    response = await asked.client.responses.create(**fields, input=QUESTION, tools=FLAT)
    assert (len(choice.message.tool_calls or ()), len(response.output)) == (1, 1)


async def test_results_of_several_calls_are_answered(asked: Asked) -> None:
    question: Any = {"role": "user", "content": QUESTION}
    first: Any = {"model": MODEL, "messages": [question], "tools": TOOLS, **asked.fields}
    message = (await asked.client.chat.completions.create(**first)).choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"of {call.function.name}"}
        for call in message.tool_calls or ()
    ]
    asked_again: Any = [question, message.model_dump(exclude_none=True), *results]
    answer = await asked.client.chat.completions.create(
        model=MODEL, messages=asked_again, tools=TOOLS, tool_choice="none", max_tokens=8
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None
