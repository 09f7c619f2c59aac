"""Guidance: a conversation written as a program."""

import guidance


def test_a_turn_is_generated(base_url: str, model: str) -> None:
    talk = guidance.models.OpenAI(model, base_url=base_url, api_key="none")
    with guidance.user():
        talk += "Hi"
    with guidance.assistant():
        talk += guidance.gen("said", max_tokens=8)
    assert talk["said"]
