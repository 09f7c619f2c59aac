"""Haystack: a chat generator with and without a stream, and an embedder; a tool and a schema."""

from typing import Any

import openai
import pytest
from conftest import Served
from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from weather import QUESTION, City, weather

ASKED = [ChatMessage.from_user("Hi")]


def generator(base_url: str, model: str, **options: Any) -> OpenAIChatGenerator:
    return OpenAIChatGenerator(
        api_key=Secret.from_token("none"),
        model=model,
        api_base_url=base_url,
        max_retries=0,
        **{"generation_kwargs": {"max_tokens": 8, "temperature": 0}, **options},
    )


def test_chat_stream_and_usage(base_url: str, model: str) -> None:
    pieces: list[str] = []
    (whole,) = generator(base_url, model).run(ASKED)["replies"]
    generator(base_url, model).run(ASKED, streaming_callback=lambda chunk: pieces.append(chunk.content))
    assert "".join(pieces) == whole.text
    assert whole.meta["usage"]["completion_tokens"] == 8


def test_embeddings(base_url: str, model: str) -> None:
    embedder = OpenAITextEmbedder(api_key=Secret.from_token("none"), model=model, api_base_url=base_url)
    assert len(embedder.run("hi")["embedding"]) == 32


def test_a_tool_and_its_result(scripted: Served) -> None:
    subject = generator(*scripted, tools=[create_tool_from_function(weather)], generation_kwargs={})
    asked = ChatMessage.from_user(QUESTION)
    (called,) = subject.run([asked])["replies"]
    (call,) = called.tool_calls
    assert call.tool_name == "weather"
    (streamed,) = subject.run([asked], streaming_callback=lambda _: None)["replies"]
    assert streamed.tool_calls[0].arguments == call.arguments
    result = ChatMessage.from_tool(weather(**call.arguments), origin=call)
    (answer,) = subject.run([asked, called, result])["replies"]
    assert "sunny" in answer.text


def test_answers_of_a_schema(scripted: Served) -> None:
    (answer,) = generator(*scripted, generation_kwargs={"response_format": City}).run(ASKED)["replies"]
    assert City.model_validate_json(answer.text)


def test_errors_are_those_of_the_official_client(base_url: str) -> None:
    with pytest.raises(openai.NotFoundError):
        generator(base_url, "nope").run(ASKED)
