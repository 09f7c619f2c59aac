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
from weather import BRIEF, QUESTION, ROOM, City, weather

ASKED = [ChatMessage.from_user("Hi")]


def generator(base_url: str, model: str, **options: Any) -> OpenAIChatGenerator:
    return OpenAIChatGenerator(
        api_key=Secret.from_token("none"),
        model=model,
        api_base_url=base_url,
        max_retries=0,
        **{"generation_kwargs": BRIEF, **options},
    )


def test_chat_stream_and_usage(base_url: str, model: str) -> None:
    pieces: list[str] = []
    (whole,) = generator(base_url, model).run(ASKED)["replies"]
    generator(base_url, model).run(ASKED, streaming_callback=lambda chunk: pieces.append(chunk.content))
    assert "".join(pieces) == whole.text
    assert whole.meta["usage"]["completion_tokens"] == 8


def test_embeddings(speaker: Served) -> None:
    place = {"model": speaker.model, "api_base_url": speaker.base_url}
    embedder = OpenAITextEmbedder(api_key=Secret.from_token("none"), **place)
    assert len(embedder.run("hi")["embedding"]) == speaker.dimensions


def test_a_tool_and_its_result(actor: Served) -> None:
    tools = [create_tool_from_function(weather)]

    def subject(**options: Any) -> OpenAIChatGenerator:
        return generator(actor.base_url, actor.model, tools=tools, generation_kwargs={**ROOM, **options})

    first = subject(**actor.first)
    asked = ChatMessage.from_user(QUESTION)
    (called,) = first.run([asked])["replies"]
    (call,) = called.tool_calls
    assert call.tool_name == "weather"
    (streamed,) = first.run([asked], streaming_callback=lambda _: None)["replies"]
    assert streamed.tool_calls[0].arguments == call.arguments
    result = ChatMessage.from_tool(weather(**call.arguments), origin=call)
    (answer,) = subject().run([asked, called, result])["replies"]
    assert "sunny" in answer.text


def test_answers_of_a_schema(actor: Served) -> None:
    options = {**ROOM, "response_format": City}
    (answer,) = generator(actor.base_url, actor.model, generation_kwargs=options).run(ASKED)["replies"]
    assert City.model_validate_json(answer.text)


def test_errors_are_those_of_the_official_client(base_url: str) -> None:
    with pytest.raises(openai.NotFoundError):
        generator(base_url, "nope").run(ASKED)
