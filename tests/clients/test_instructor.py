"""Instructor: objects from answers, by tools, by a schema, or by asking for JSON in the prompt."""

import instructor
import openai
import pytest
from instructor.core.exceptions import IncompleteOutputException
from pydantic import BaseModel
from refusals import refused

ASKED = [{"role": "user", "content": "Capital of France?"}]


class City(BaseModel):
    """What is asked for."""

    city: str


def client(base_url: str, mode: instructor.Mode) -> instructor.Instructor:
    return instructor.from_openai(openai.OpenAI(base_url=base_url, api_key="none", max_retries=0), mode=mode)


@pytest.mark.parametrize(
    ("mode", "field"), [("TOOLS", "tools"), ("JSON", "response_format"), ("JSON_SCHEMA", "response_format")]
)
def test_modes_that_need_more_than_text_are_refused(base_url: str, model: str, mode: str, field: str) -> None:
    subject = client(base_url, instructor.Mode[mode])
    with refused(field):
        subject.chat.completions.create(model=model, response_model=City, messages=ASKED, max_retries=0, max_tokens=9)


def test_json_asked_for_in_the_prompt_is_the_models_to_write(base_url: str, model: str) -> None:
    subject = client(base_url, instructor.Mode.MD_JSON)
    with pytest.raises(IncompleteOutputException) as caught:  # a random model writes none
        subject.chat.completions.create(
            model=model, response_model=City, messages=ASKED, max_retries=0, max_tokens=9, temperature=0
        )
    assert caught.value.last_completion.usage.completion_tokens == 9


def test_text(base_url: str, model: str) -> None:
    subject = client(base_url, instructor.Mode.MD_JSON)
    call = {"model": model, "response_model": None, "messages": ASKED, "max_tokens": 8, "temperature": 0}
    whole = subject.chat.completions.create(**call).choices[0].message.content
    pieces = subject.chat.completions.create(**call, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == whole
