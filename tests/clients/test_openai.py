"""The official client: what programs call."""

import asyncio
from typing import Any

import openai
import pytest
from weather import TOOL

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


def test_the_streaming_helper(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model, messages=ASKED, max_tokens=8, stream=True, stream_options={"include_usage": True}
    )
    *_, last = stream
    assert last.usage is not None
    assert last.usage.completion_tokens == 8


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "developer", "content": "Be brief."}, *ASKED],
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        [*ASKED, {"role": "assistant", "content": "The capital"}],
        [{"role": "user", "content": ""}],
        [*ASKED, {"role": "assistant", "content": None}, *ASKED],
    ],
    ids=["developer", "parts", "prefill", "empty", "none"],
)
def test_conversations(client: openai.OpenAI, model: str, messages: list[Any]) -> None:
    assert client.chat.completions.create(model=model, messages=messages, max_tokens=4).choices


def test_completions_and_embeddings(client: openai.OpenAI, model: str) -> None:
    scored = client.completions.create(model=model, prompt="The capital", max_tokens=1, echo=True, logprobs=1)
    assert scored.choices[0].logprobs is not None
    assert scored.choices[0].logprobs.tokens is not None
    assert len(scored.choices[0].logprobs.tokens) == len("The capital") + 1
    one, two = client.embeddings.create(model=model, input=["a", "b"]).data
    assert len(one.embedding) == len(two.embedding) == 32


@pytest.mark.parametrize(
    ("options", "kind", "code"),
    [
        ({"model": "nope"}, openai.NotFoundError, "model_not_found"),
        ({"temperature": 9}, openai.BadRequestError, "invalid_value"),
        ({"max_tokens": 100_000}, openai.BadRequestError, "context_length_exceeded"),
        ({"extra_body": {"best_of": 2}}, openai.BadRequestError, "invalid_value"),
    ],
    ids=["model", "value", "context", "dialect"],
)
def test_errors_are_of_the_clients_own_kinds(
    client: openai.OpenAI, model: str, options: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": model, "messages": ASKED, "max_tokens": 4, **options})
    assert caught.value.code == code
    assert caught.value.request_id


def test_models(client: openai.OpenAI, model: str) -> None:
    assert client.models.retrieve(model) in list(client.models.list())


def test_the_answer_is_whole_raw_and_in_pieces(client: openai.OpenAI, model: str) -> None:
    call: dict[str, Any] = {"model": model, "messages": ASKED, "max_tokens": 8, "temperature": 0}
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
    assert "".join(told) == whole.output_text
    with pytest.raises(openai.BadRequestError, match="web_search"):
        client.responses.create(**ask, tools=[{"type": "web_search"}])


def test_many_at_once(base_url: str, model: str) -> None:
    async def ask() -> int:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none", timeout=60) as client:
            asked = (client.chat.completions.create(model=model, messages=ASKED, max_tokens=3) for _ in range(20))
            return len({answer.id for answer in await asyncio.gather(*asked)})

    assert asyncio.run(ask()) == 20
