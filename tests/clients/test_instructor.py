"""Instructor: objects from answers, by tools, by a schema, or by asking for JSON in the prompt."""

from typing import Any

import instructor
import openai
import pytest
from conftest import RANDOM, Served
from instructor.core.exceptions import IncompleteOutputException
from pydantic import BaseModel
from weather import BRIEF, ROOM, City

ASKED = [{"role": "user", "content": "Capital of France?"}]


class Town(BaseModel):
    """Any object is one: this form comes without a schema."""

    city: str | None = None


def client(base_url: str, mode: instructor.Mode) -> instructor.Instructor:
    return instructor.from_openai(openai.OpenAI(base_url=base_url, api_key="none", max_retries=0), mode=mode)


@pytest.mark.parametrize(
    ("mode", "more"),
    [
        ("TOOLS", {}),
        ("JSON_SCHEMA", {}),
        # it asks for JSON in words alone, so the schema is stated beside it
        ("MD_JSON", {"extra_body": {"structured_outputs": {"json": City.model_json_schema()}}}),
    ],
    ids=["TOOLS", "JSON_SCHEMA", "MD_JSON"],
)
def test_objects(actor: Served, mode: str, more: dict[str, Any]) -> None:
    subject = client(actor.base_url, instructor.Mode[mode])
    call = {"model": actor.model, "response_model": City, "messages": ASKED, "max_retries": 0, **ROOM, **more}
    whole = subject.chat.completions.create(**call)
    assert isinstance(whole, City)
    *_, last = subject.chat.completions.create_partial(**call)
    assert City.model_validate(last.model_dump())  # it is asked for in other words, so its values may differ


def test_a_json_object(actor: Served) -> None:
    subject = client(actor.base_url, instructor.Mode.JSON)
    call = {"model": actor.model, "response_model": Town, "messages": ASKED, "max_retries": 0, **ROOM}
    assert isinstance(subject.chat.completions.create(**call), Town)


@RANDOM
def test_json_asked_for_in_the_prompt_is_the_models_to_write(base_url: str, model: str) -> None:
    subject = client(base_url, instructor.Mode.MD_JSON)
    with pytest.raises(IncompleteOutputException) as caught:  # a random model writes none
        subject.chat.completions.create(
            model=model, response_model=City, messages=ASKED, max_retries=0, max_tokens=9, temperature=0
        )
    assert caught.value.last_completion.usage.completion_tokens == 9


def test_text(base_url: str, model: str) -> None:
    subject = client(base_url, instructor.Mode.MD_JSON)
    call = {"model": model, "response_model": None, "messages": ASKED, **BRIEF}
    whole = subject.chat.completions.create(**call).choices[0].message.content
    pieces = subject.chat.completions.create(**call, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == whole
