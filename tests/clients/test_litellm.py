"""LiteLLM: calls, and the exceptions by which its router falls back."""

import json
from typing import Any

import litellm
import pytest
from conftest import RANDOM, Served
from weather import BRIEF, QUESTION, ROOM, SCHEMA, TOOL, City

ASKED = [{"role": "user", "content": "Hello"}]


def _place(served: Served) -> dict[str, Any]:
    return {"api_base": served.base_url, "api_key": "none", "num_retries": 0}


@pytest.mark.parametrize(
    "dialect", ["openai", "hosted_vllm", "custom_openai", "litellm_proxy", "text-completion-openai"]
)
def test_chat_and_stream(speaker: Served, dialect: str) -> None:
    call = {"model": f"{dialect}/{speaker.model}", "messages": ASKED, **_place(speaker), **BRIEF}
    whole = litellm.completion(**call)
    pieces = list(litellm.completion(**call, stream=True, stream_options={"include_usage": True}))
    told = "".join(one.choices[0].delta.content or "" for one in pieces if one.choices)
    assert told == whole.choices[0].message.content
    assert litellm.stream_chunk_builder(pieces).usage.completion_tokens == whole.usage.completion_tokens == 8


@pytest.mark.parametrize("dialect", ["openai", "hosted_vllm"])
def test_embeddings(speaker: Served, dialect: str) -> None:
    answer = litellm.embedding(model=f"{dialect}/{speaker.model}", input=["a", "b"], **_place(speaker))
    assert [len(one["embedding"]) for one in answer.data] == [speaker.dimensions] * 2


@pytest.mark.parametrize("dialect", ["openai", "hosted_vllm"])
def test_an_overflow_is_an_overflow(base_url: str, model: str, dialect: str) -> None:
    long = [{"role": "user", "content": "word " * 30_000}]
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(
            model=f"{dialect}/{model}", api_base=base_url, api_key="none", messages=long, max_tokens=4, num_retries=0
        )


@pytest.mark.parametrize("dialect", ["openai", "hosted_vllm", "custom_openai", "litellm_proxy"])
def test_a_tool_and_its_result(actor: Served, dialect: str) -> None:
    call: dict[str, Any] = {"model": f"{dialect}/{actor.model}", "tools": [TOOL], **_place(actor), **ROOM}
    first = {**call, **actor.first}
    asked = {"role": "user", "content": QUESTION}
    said = litellm.completion(**first, messages=[asked]).choices[0]
    assert (said.finish_reason, said.message.tool_calls[0].function.name) == ("tool_calls", "weather")
    pieces = list(litellm.completion(**first, messages=[asked], stream=True))
    (streamed,) = litellm.stream_chunk_builder(pieces).choices[0].message.tool_calls
    assert streamed.function.arguments == said.message.tool_calls[0].function.arguments
    result = {"role": "tool", "tool_call_id": said.message.tool_calls[0].id, "content": "sunny"}
    answer = litellm.completion(**call, messages=[asked, said.message, result]).choices[0]
    assert (answer.finish_reason, "sunny" in answer.message.content) == ("stop", True)


@pytest.mark.parametrize("dialect", ["openai", "hosted_vllm", "litellm_proxy"])
def test_answers_of_a_schema(actor: Served, dialect: str) -> None:
    call = {"model": f"{dialect}/{actor.model}", "messages": ASKED, **_place(actor), **ROOM}
    answer = litellm.completion(**call, response_format=City).choices[0].message.content
    assert City.model_validate_json(answer)
    free = litellm.completion(**call, response_format={"type": "json_object"}).choices[0].message.content
    assert isinstance(json.loads(free), dict)


@pytest.mark.parametrize("dialect", ["openai", "hosted_vllm"])
def test_responses_with_a_tool(actor: Served, dialect: str) -> None:
    tool = {"type": "function", "name": "weather", "parameters": SCHEMA}
    call = {"model": f"{dialect}/{actor.model}", **_place(actor), "max_output_tokens": 200, "temperature": 0}
    choice = {"tools": [tool], **actor.first}
    (said,) = litellm.responses(**call, **choice, input=QUESTION).output
    assert (said.type, said.name) == ("function_call", "weather")
    assert set(json.loads(said.arguments)) == {"city"}


@pytest.mark.parametrize("dialect", ["openai", "hosted_vllm"])
@RANDOM
def test_responses(speaker: Served, dialect: str) -> None:
    call = {"model": f"{dialect}/{speaker.model}", **_place(speaker)}
    answer = litellm.responses(**call, input="Hi", max_output_tokens=16, temperature=0)
    assert answer.usage.output_tokens == 16  # it asks for no fewer
    *_, last = litellm.responses(**call, input="Hi", max_output_tokens=16, temperature=0, stream=True)
    assert last.response.output[0].content[0].text == answer.output[0].content[0].text
