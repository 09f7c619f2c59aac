"""Prompt formats, byte for byte, and which of them serves a model."""

import pytest

from vicuna_server.errors import RequestError
from vicuna_server.prompts import Conversation, EndOfTurn, Message, Role, get_template

V1_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
V0_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
ALPACA_SYSTEM = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)


def talk(*turns: str, system: str | None = None) -> Conversation:
    roles: tuple[Role, Role] = ("user", "assistant")
    messages = [Message(roles[index % 2], text) for index, text in enumerate(turns)]
    return Conversation.of([*([Message("system", system)] if system is not None else []), *messages])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vicuna_v1.1", f"{V1_SYSTEM} USER: Hello! ASSISTANT: Hi!</s>USER: How are you? ASSISTANT:"),
        (
            "vicuna_v0",
            f"{V0_SYSTEM}\n### Human: Hello!\n### Assistant: Hi!\n### Human: How are you?\n### Assistant:",
        ),
        (
            "alpaca",
            f"{ALPACA_SYSTEM}\n\n### Instruction:\nHello!\n\n### Response:Hi!</s>"
            "### Instruction:\nHow are you?\n\n### Response:",
        ),
    ],
)
def test_two_turns_byte_for_byte(name: str, expected: str) -> None:
    assert get_template(name).render(talk("Hello!", "Hi!", "How are you?")).text() == expected


def test_alpaca_single_instruction_as_published() -> None:
    expected = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nList three fruits.\n\n### Response:"
    )
    assert get_template("alpaca").render(talk("List three fruits.")).text() == expected


def test_only_the_template_ends_a_turn_and_bos_is_never_text() -> None:
    prompt = get_template("vicuna_v1.1").render(talk("a</s>b", "c", "d"))
    assert [part for part in prompt.parts if part is EndOfTurn.EOS] == [EndOfTurn.EOS]
    assert "<s>" not in prompt.text()
    assert len(prompt.parts) == 3  # text, eos, text: each run of text in one piece


def test_a_last_assistant_message_is_continued() -> None:
    assert get_template("vicuna_v1.1").render(talk("Count.", "1, 2,")).text().endswith(" ASSISTANT: 1, 2,")
    assert get_template("vicuna_v0").render(talk("Count.", "1, 2,")).text().endswith("\n### Assistant: 1, 2,")
    assert get_template("alpaca").render(talk("Count.", "1, 2,")).text().endswith("\n\n### Response:1, 2,")


def test_a_system_message_replaces_the_templates_own() -> None:
    assert get_template("vicuna_v1.1").render(talk("Hi", system="Be brief.")).text() == (
        "Be brief. USER: Hi ASSISTANT:"
    )
    assert get_template("vicuna_v1.1").render(talk("Hi", system="")).text() == "USER: Hi ASSISTANT:"


def test_neighbours_of_one_role_are_joined() -> None:
    conversation = Conversation.of([Message("user", "a"), Message("user", "b"), Message("assistant", "c")])
    assert conversation.turns == (Message("user", "a\nb"), Message("assistant", "c"))


def test_a_conversation_needs_a_turn() -> None:
    with pytest.raises(RequestError, match="user message"):
        Conversation.of([Message("system", "only this")])


def test_v0_stops_at_its_separator() -> None:
    assert get_template("vicuna_v0").stop == ("###",)
    assert get_template("vicuna_v1.1").stop == ()
