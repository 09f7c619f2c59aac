"""LiteLLM: calls, and the exceptions by which its router falls back."""

import json
from typing import Any

import litellm
import pytest
from conftest import Served
from weather import QUESTION, SCHEMA, TOOL, City

ASKED = [{"role": "user", "content": "Hello"}]


def _place(scripted: Served) -> dict[str, Any]:
    return {"api_base": scripted.base_url, "api_key": "none", "num_retries": 0}


@pytest.mark.parametrize(
    "dialect", ["openai", "hosted_vllm", "custom_openai", "litellm_proxy", "text-completion-openai"]
)
def test_chat_and_stream(base_url: str, model: str, dialect: str) -> None:
    call = {"model": f"{dialect}/{model}", "api_base": base_url, "api_key": "none", "messages": ASKED, "max_tokens": 6}
    whole = litellm.completion(**call, temperature=0)
    pieces = litellm.completion(**call, temperature=0, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == whole.choices[0].message.content


def test_embeddings(base_url: str, model: str) -> None:
    answer = litellm.embedding(model=f"openai/{model}", api_base=base_url, api_key="none", input=["a", "b"])
    assert len(answer.data) == 2


@pytest.mark.parametrize("dialect", ["openai", "hosted_vllm"])
def test_an_overflow_is_an_overflow(base_url: str, model: str, dialect: str) -> None:
    long = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(
            model=f"{dialect}/{model}", api_base=base_url, api_key="none", messages=long, max_tokens=4, num_retries=0
        )


@pytest.mark.parametrize("dialect", ["openai", "hosted_vllm", "custom_openai", "litellm_proxy"])
def test_a_tool_and_its_result(scripted: Served, dialect: str) -> None:
    call: dict[str, Any] = {"model": f"{dialect}/{scripted.model}", "tools": [TOOL], **_place(scripted)}
    asked = {"role": "user", "content": QUESTION}
    said = litellm.completion(**call, messages=[asked]).choices[0]
    assert (said.finish_reason, said.message.tool_calls[0].function.name) == ("tool_calls", "weather")
    pieces = list(litellm.completion(**call, messages=[asked], stream=True))
    (streamed,) = litellm.stream_chunk_builder(pieces).choices[0].message.tool_calls
    assert streamed.function.arguments == said.message.tool_calls[0].function.arguments
    result = {"role": "tool", "tool_call_id": said.message.tool_calls[0].id, "content": "sunny"}
    answer = litellm.completion(**call, messages=[asked, said.message, result]).choices[0]
    assert (answer.finish_reason, "sunny" in answer.message.content) == ("stop", True)


@pytest.mark.parametrize("dialect", ["openai", "hosted_vllm", "litellm_proxy"])
def test_answers_of_a_schema(scripted: Served, dialect: str) -> None:
    call = {"model": f"{dialect}/{scripted.model}", "messages": ASKED, **_place(scripted)}
    answer = litellm.completion(**call, response_format=City).choices[0].message.content
    assert City.model_validate_json(answer)
    free = litellm.completion(**call, response_format={"type": "json_object"}).choices[0].message.content
    assert isinstance(json.loads(free), dict)


@pytest.mark.parametrize("dialect", ["openai", "hosted_vllm"])
def test_responses_with_a_tool(scripted: Served, dialect: str) -> None:
    tool = {"type": "function", "name": "weather", "parameters": SCHEMA}
    call = {"model": f"{dialect}/{scripted.model}", **_place(scripted)}
    (said,) = litellm.responses(**call, input=QUESTION, tools=[tool]).output
    assert (said.type, said.name) == ("function_call", "weather")
    assert set(json.loads(said.arguments)) == {"city"}


def test_responses(base_url: str, model: str) -> None:
    call = {"model": f"openai/{model}", "api_base": base_url, "api_key": "none", "num_retries": 0}
    answer = litellm.responses(**call, input="Hi", max_output_tokens=16, temperature=0)
    assert answer.usage.output_tokens == 16  # it asks for no fewer
    *_, last = litellm.responses(**call, input="Hi", max_output_tokens=16, temperature=0, stream=True)
    assert last.response.output[0].content[0].text == answer.output[0].content[0].text
