"""The official client: what programs call."""

import asyncio
from typing import Any

import openai
import pytest
from conftest import Served
from weather import BRIEF, TOOL

IMAGE: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
LONG: Any = [{"role": "user", "content": "word " * 30_000}]
CALLED: Any = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ASKED: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def client(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=60)


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"n": 3},
        {"stop": ["a", "b"]},
        {"logit_bias": {"50": -100}},
        {"logprobs": True, "top_logprobs": 3},
        {"prediction": {"type": "content", "content": "Paris"}},
        {"reasoning_effort": "low"},
        {"metadata": {"a": "b"}},
        {"store": True},
        {"user": "u"},
        {"service_tier": "auto"},
        {"safety_identifier": "x"},
        {"verbosity": "low"},
        {"modalities": ["text"]},
        {"response_format": {"type": "text"}},
        {"tools": [TOOL], "tool_choice": "none"},
        {"extra_body": {"top_k": 5, "min_tokens": 2, "stop_token_ids": [3]}},
    ],
    ids=str,
)
def test_what_the_client_can_say_is_taken(client: openai.OpenAI, model: str, options: dict[str, Any]) -> None:
    answer = client.chat.completions.create(model=model, messages=ASKED, max_completion_tokens=8, **options)
    assert len(answer.choices) == options.get("n", 1)


def test_usage_comes_last_where_it_is_asked_for(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model, messages=ASKED, max_tokens=8, stream=True, stream_options={"include_usage": True}
    )
    *_, last = stream
    assert last.usage is not None
    assert last.usage.completion_tokens == 8


def test_the_streaming_helper(client: openai.OpenAI, model: str) -> None:
    call: dict[str, Any] = {"model": model, "messages": ASKED, "temperature": 0}
    whole = client.chat.completions.create(**call, max_tokens=8).choices[0].message.content or ""
    # it raises on an answer that was cut, so this one ends by itself
    with client.chat.completions.stream(**call, max_tokens=64, stop=whole[-1]) as stream:
        kinds = {event.type for event in stream}
        (choice,) = stream.get_final_completion().choices
    assert kinds >= {"chunk", "content.delta", "content.done"}
    assert (choice.message.content, choice.finish_reason) == (whole.partition(whole[-1])[0], "stop")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "developer", "content": "Be brief."}, *ASKED],
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        [*ASKED, {"role": "assistant", "content": "The capital"}],
        [{"role": "user", "content": ""}],
        [*ASKED, {"role": "assistant", "content": None}, *ASKED],
        [
            *ASKED,
            {"role": "assistant", "tool_calls": [CALLED]},
            {"role": "tool", "tool_call_id": "1", "content": "Paris"},
        ],
    ],
    ids=["developer", "parts", "prefill", "empty", "none", "call"],
)
def test_conversations(client: openai.OpenAI, model: str, messages: list[Any]) -> None:
    answer = client.chat.completions.create(model=model, messages=messages, **BRIEF)
    assert answer.choices[0].message.content


def test_completions_and_embeddings(client: openai.OpenAI, speaker: Served) -> None:
    model = speaker.model
    scored = client.completions.create(model=model, prompt="The capital", max_tokens=1, echo=True, logprobs=1)
    assert scored.choices[0].logprobs is not None
    *prompt, _ = scored.choices[0].logprobs.tokens or ()
    assert "".join(prompt) == "The capital"
    one, two = client.embeddings.create(model=model, input=["a", "b"]).data
    assert len(one.embedding) == len(two.embedding) == speaker.dimensions


@pytest.mark.parametrize(
    ("options", "kind", "code"),
    [
        ({"model": "nope"}, openai.NotFoundError, "model_not_found"),
        ({"temperature": 9}, openai.BadRequestError, "invalid_value"),
        ({"max_tokens": 100_000}, openai.BadRequestError, "context_length_exceeded"),
        ({"messages": LONG}, openai.BadRequestError, "context_length_exceeded"),
        ({"extra_body": {"best_of": 2}}, openai.BadRequestError, "invalid_value"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, openai.BadRequestError, "invalid_value"),
    ],
    ids=["model", "value", "context", "long", "dialect", "image"],
)
def test_errors_are_of_the_clients_own_kinds(
    client: openai.OpenAI, model: str, options: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": model, "messages": ASKED, "max_tokens": 4, **options})
    assert caught.value.code == code
    assert caught.value.request_id


def test_what_is_not_there_is_told_as_that(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model=model, input="a", dimensions=8)
    with pytest.raises(openai.NotFoundError, match="moderations"):
        client.moderations.create(input="hi")


def test_models(client: openai.OpenAI, model: str) -> None:
    assert client.models.retrieve(model) in list(client.models.list())


def test_the_answer_is_whole_raw_and_in_pieces(client: openai.OpenAI, model: str) -> None:
    call: dict[str, Any] = {"model": model, "messages": ASKED, **BRIEF}
    raw = client.chat.completions.with_raw_response.create(**call)
    pieces = client.chat.completions.create(**call, stream=True)
    assert raw.headers["x-request-id"]
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == raw.parse().choices[0].message.content
    text = {"model": model, "prompt": "The capital", "max_tokens": 4, "temperature": 0}
    whole, pieces = client.completions.create(**text), client.completions.create(**text, stream=True)
    assert "".join(one.choices[0].text for one in pieces) == whole.choices[0].text


def test_responses_whole_and_streamed(client: openai.OpenAI, model: str) -> None:
    ask: dict[str, Any] = {"model": model, "input": "hi", "max_output_tokens": 8, "temperature": 0}
    whole = client.responses.create(**ask)
    assert (whole.status, whole.usage.output_tokens) == ("incomplete", 8)
    with client.responses.stream(**ask) as stream:
        told = [event.delta for event in stream if event.type == "response.output_text.delta"]
    *_, last = client.responses.create(**ask, stream=True)
    assert "".join(told) == last.response.output_text == whole.output_text
    assert last.type == "response.incomplete"
    with pytest.raises(openai.BadRequestError, match="web_search"):
        client.responses.create(**ask, tools=[{"type": "web_search"}])


def test_many_at_once(base_url: str, model: str) -> None:
    async def ask() -> int:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none", timeout=60) as client:
            asked = (client.chat.completions.create(model=model, messages=ASKED, max_tokens=3) for _ in range(20))
            return len({answer.id for answer in await asyncio.gather(*asked)})

    assert asyncio.run(ask()) == 20
