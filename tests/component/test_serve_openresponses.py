"""The cases of openresponses.org's compliance run, and what its specification demands of responses and streams.

Source: github.com/openresponses/openresponses, `src/lib/compliance-tests.ts` and the required fields of its schemas.
The run itself needs bun and a clone of that repository; the requests are its own in other words.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.responses import PATH, WEATHER, events, use_words
from support.serving import MODEL, Running, running
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings


def names(text: str) -> list[str]:
    return text.split()


RESPONSE_FIELDS = names("""
    id object created_at completed_at status incomplete_details model previous_response_id instructions output error
    tools tool_choice truncation parallel_tool_calls text top_p presence_penalty frequency_penalty top_logprobs
    temperature reasoning user usage max_output_tokens max_tool_calls store background service_tier metadata
    safety_identifier prompt_cache_key
""")
USAGE_FIELDS = names("input_tokens output_tokens total_tokens input_tokens_details output_tokens_details")
ITEM_FIELDS = {
    "message": names("type id status role content"),
    "function_call": names("type id call_id name arguments status"),
    "reasoning": names("type id summary"),
}
EVENT_FIELDS = {
    "response.created": ["response"],
    "response.in_progress": ["response"],
    "response.completed": ["response"],
    "response.incomplete": ["response"],
    "response.output_item.added": ["output_index", "item"],
    "response.output_item.done": ["output_index", "item"],
    "response.content_part.added": ["item_id", "output_index", "content_index", "part"],
    "response.content_part.done": ["item_id", "output_index", "content_index", "part"],
    "response.output_text.delta": ["item_id", "output_index", "content_index", "delta", "logprobs"],
    "response.output_text.done": ["item_id", "output_index", "content_index", "text", "logprobs"],
    "response.reasoning_text.delta": ["item_id", "output_index", "content_index", "delta"],
    "response.reasoning_text.done": ["item_id", "output_index", "content_index", "text"],
    "response.function_call_arguments.delta": ["item_id", "output_index", "delta"],
    "response.function_call_arguments.done": ["item_id", "output_index", "arguments"],
}


def message(role: str, content: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


CASES: dict[str, dict[str, Any]] = {
    "basic": {"input": [message("user", "Greet me with three words.")]},
    "system prompt": {"input": [message("system", "Talk like a pirate."), message("user", "Greet me.")]},
    "multi-turn": {
        "input": [
            message("user", "I am Alice."),
            message("assistant", "Hello Alice, how can I help?"),
            message("user", "Who am I?"),
        ]
    },
    "text": {"input": "Greet me."},
    "reasoning": {"input": "thinking hm answer yes"},
    "tool calling": {"input": [message("user", 'call weather {"location":"x"}')], "tools": [WEATHER]},
    "cut": {"input": "one two three", "max_output_tokens": 2},
}


@pytest.fixture
async def live(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    use_words(monkeypatch)
    async with running(ScriptedEngine(ScriptedSettings(tokens=5))) as server:
        yield server


def check(response: dict[str, Any]) -> None:
    """Compare a response with the specification."""
    assert set(RESPONSE_FIELDS) <= set(response)
    assert response["object"] == "response"
    assert isinstance(response["created_at"], int)
    if response["usage"] is not None:
        assert set(USAGE_FIELDS) <= set(response["usage"])
        assert "cached_tokens" in response["usage"]["input_tokens_details"]
        assert "reasoning_tokens" in response["usage"]["output_tokens_details"]
    for tool in response["tools"]:
        assert {"type", "name", "description", "parameters", "strict"} <= set(tool)
    for item in response["output"]:
        check_item(item)


def check_item(item: dict[str, Any]) -> None:
    assert set(ITEM_FIELDS[item["type"]]) <= set(item)
    assert item["status"] in ("in_progress", "completed", "incomplete")
    if item["type"] == "message":
        for part in item["content"]:
            assert (part["type"], part["annotations"]) == ("output_text", [])
            assert {"text", "logprobs"} <= set(part)


@pytest.mark.parametrize("case", CASES)
async def test_a_whole_response_has_all_that_is_required(case: str, live: Running) -> None:
    response = await live.http.post(PATH, json={"model": MODEL, **CASES[case]})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    read = response.json()
    check(read)
    assert read["output"]
    assert read["status"] == ("incomplete" if case == "cut" else "completed")
    kinds = [item["type"] for item in read["output"]]
    assert ("function_call" in kinds) == (case == "tool calling")
    assert ("reasoning" in kinds) == (case == "reasoning")
    # an incomplete item is the last, and its response is incomplete too
    states = [item["status"] for item in read["output"]]
    assert set(states[:-1]) <= {"completed"}
    assert states[-1] == read["status"]


@pytest.mark.parametrize("case", CASES)
async def test_a_stream_has_all_that_is_required(case: str, live: Running) -> None:
    response = await live.http.post(PATH, json={"model": MODEL, "stream": True, **CASES[case]})
    assert response.headers["content-type"].startswith("text/event-stream")
    told = events(response.text)  # each named as its type, `[DONE]` at the end
    for event in told:
        assert {"type", "sequence_number", *EVENT_FIELDS[event["type"]]} == set(event) - {"name"}
        if "response" in event:
            check(event["response"])
        if "item" in event:
            check_item(event["item"])
    kinds = [event["type"] for event in told]
    if case == "tool calling":
        calls = [event["item"] for event in told if "item" in event]
        assert [item["status"] for item in calls[:2]] == ["in_progress", "completed"]
        assert {"response.function_call_arguments.delta", "response.function_call_arguments.done"} < set(kinds)
    last = told[-1]["response"]
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert last["output"] == done


async def test_images_are_refused_by_name(live: Running) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,aGk="}
    content = [{"type": "input_text", "text": "What is this?"}, image]
    response = await live.http.post(PATH, json={"model": MODEL, "input": [message("user", content)]})
    assert response.status_code == 400
    assert "images are not supported" in response.json()["error"]["message"]
