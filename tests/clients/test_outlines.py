"""Outlines: text, and answers of a form."""

import re
from typing import Any, Literal

import openai
import outlines
import pytest
from conftest import Served
from weather import BRIEF, ROOM, City


@pytest.fixture
def client(base_url: str) -> openai.OpenAI:
    return _client(base_url)


def _client(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)


@pytest.mark.parametrize("dialect", [outlines.from_openai, outlines.from_vllm], ids=["openai", "vllm"])
def test_text_and_stream(client: openai.OpenAI, model: str, dialect: Any) -> None:
    subject = dialect(client, model)
    whole = subject("Hi", **BRIEF)
    assert "".join(subject.stream("Hi", **BRIEF)) == whole


@pytest.mark.parametrize("dialect", [outlines.from_openai, outlines.from_vllm], ids=["openai", "vllm"])
def test_answers_of_a_schema(actor: Served, dialect: Any) -> None:
    subject = dialect(_client(actor.base_url), actor.model)
    assert City.model_validate_json(subject("The capital?", City, **ROOM))
    assert City.model_validate_json("".join(subject.stream("The capital?", City, **ROOM)))


def test_a_choice_and_a_regular_expression(client: openai.OpenAI, model: str) -> None:
    subject = outlines.from_vllm(client, model)
    assert subject("Yes or no?", Literal["yes", "no"], max_tokens=8) in {"yes", "no"}
    assert re.fullmatch("[0-9]{4}", subject("Which year?", outlines.types.Regex("[0-9]{4}"), max_tokens=8))
