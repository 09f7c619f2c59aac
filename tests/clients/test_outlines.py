"""Outlines: text, and answers of a form, which are refused rather than given without it."""

from typing import Any, Literal

import openai
import outlines
import pytest
from pydantic import BaseModel
from refusals import refused


class City(BaseModel):
    """What is asked for."""

    city: str


@pytest.fixture
def client(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)


@pytest.mark.parametrize("dialect", [outlines.from_openai, outlines.from_vllm], ids=["openai", "vllm"])
def test_text_and_stream(client: openai.OpenAI, model: str, dialect: Any) -> None:
    subject = dialect(client, model)
    whole = subject("Hi", max_tokens=8, temperature=0)
    assert "".join(subject.stream("Hi", max_tokens=8, temperature=0)) == whole


def test_a_form_is_refused(client: openai.OpenAI, model: str) -> None:
    with refused("response_format"):
        outlines.from_openai(client, model)("Capital?", City, max_tokens=8)
    with refused("structured_outputs"):
        outlines.from_vllm(client, model)("Yes or no?", Literal["yes", "no"], max_tokens=8)
