"""How the oldest turns are left out: each message is counted once, and the prompt is encoded twice at most."""

import random

import pytest

from vicuna_server.engine import ChatPrompt
from vicuna_server.engine.trimming import most_tokens, trim
from vicuna_server.errors import ContextLengthError
from vicuna_server.prompts import Message, Role, Tool, ToolCall


class Model:
    """Tokens are words; the template adds some of its own to each message, and to the whole."""

    def __init__(self, per_message: int = 5, around: int = 20, context: int = 10**9) -> None:
        self.per_message, self.around, self.context = per_message, around, context
        self.counted: list[str] = []
        self.encoded: list[ChatPrompt] = []

    def least_tokens(self, prompt: str) -> int:
        return len(prompt) // 12

    def count(self, text: str) -> int:
        self.counted.append(text)
        return len(text.split())

    def size(self, prompt: ChatPrompt) -> int:
        return self.around + sum(self.per_message + len(one.content.split()) for one in prompt.messages)

    def encode(self, prompt: ChatPrompt) -> range:
        if self.size(prompt) > self.context:
            raise ContextLengthError("too long", tokens=self.size(prompt), param="messages")
        self.encoded.append(prompt)
        return range(self.size(prompt))


def talk(count: int, words: int, *, system: str | None = None) -> ChatPrompt:
    turns = tuple(
        Message("assistant" if index % 2 else "user", f"m{index} " + "word " * (words - 1)) for index in range(count)
    )
    return ChatPrompt((Message("system", system), *turns) if system is not None else turns)


def kept(prompt: ChatPrompt, dropped: int) -> int:
    """The size of what is left when the oldest messages but the system's go, with the template's part."""
    turns = [one for one in prompt.messages if one.role != "system"]
    head = [one for one in prompt.messages if one.role == "system"]
    return Model().size(ChatPrompt((*head, *turns[dropped:])))


def test_a_conversation_of_megabytes_is_encoded_twice_at_most() -> None:
    model, prompt = Model(), talk(2047, 400)
    assert sum(len(one.content) for one in prompt.messages) > 4_000_000
    encoded, left_out = trim(prompt, 1536, model, model.encode)
    assert len(model.encoded) <= 2
    assert len(model.counted) <= 5
    assert len(set(model.counted)) == len(model.counted)
    assert left_out == 2044
    assert len(encoded) == kept(prompt, 2044) <= 1536 < kept(prompt, 2042)


def test_one_message_that_is_longer_than_all_is_not_even_counted() -> None:
    model = Model()
    prompt = ChatPrompt((Message("user", "word " * 800_000), Message("assistant", "a"), Message("user", "b")))
    assert trim(prompt, 1000, model, model.encode)[1] == 2
    assert model.counted == ["b", "a"]
    assert len(model.encoded) == 1


def test_what_fits_is_encoded_once() -> None:
    model, prompt = Model(), talk(9, 10, system="Be kind.")
    assert trim(prompt, 1000, model, model.encode)[1] == 0
    assert model.encoded == [prompt]


@pytest.mark.parametrize("seed", range(40))
def test_no_more_goes_than_must(seed: int) -> None:
    """Over random conversations, of whose messages the template's part is the same."""
    dice = random.Random(seed)
    any_role: list[Role] = ["user", "user", "assistant", "system"]
    roles: list[Role] = ["system", *(dice.choice(any_role) for _ in range(dice.randint(1, 60)))]
    messages = tuple(Message(role, "w " * dice.randint(0, 40)) for role in roles)
    most, model = dice.randint(50, 1200), Model(context=10**9 if seed % 2 else 1500)
    encoded, left_out = trim(ChatPrompt(messages), most, model, model.encode)
    left = model.encoded[-1]
    assert len(left.messages) == len(messages) - left_out
    assert [one for one in left.messages if one.role == "system"] == [one for one in messages if one.role == "system"]
    assert len(model.encoded) <= 2
    turns = [one for one in messages if one.role != "system"]
    rest = [one for one in left.messages if one.role != "system"]
    assert turns[len(turns) - len(rest) :] == rest
    if len(encoded) > most:  # the last turn alone is too long
        assert (
            sum(one.role == "user" and (not index or rest[index - 1].role != "user") for index, one in enumerate(rest))
            <= 1
        )
    elif left_out:
        # With the turn before, it would have been too long; within the rounding of the template's part.
        index = next(place for place in range(len(turns) - len(rest) - 1, -1, -1) if _begins(turns, place))
        before = [*(one for one in messages if one.role == "system"), *turns[index:]]
        assert model.size(ChatPrompt(tuple(before))) > most - 2 * model.per_message


def _begins(turns: list[Message], index: int) -> bool:
    return index == 0 or (turns[index].role == "user" and turns[index - 1].role != "user")


def test_a_template_that_adds_more_to_old_turns_still_comes_to_an_end() -> None:
    class Odd(Model):
        def size(self, prompt: ChatPrompt) -> int:
            return sum(5000 if one.content.startswith("m1998 ") else 3 for one in prompt.messages)

    model = Odd()
    encoded, _ = trim(talk(2001, 3), 600, model, model.encode)
    assert len(encoded) <= 600
    assert len(model.encoded) <= 5


@pytest.mark.parametrize(("context", "max_tokens", "most"), [(100, 20, 80), (100, None, 75), (100, 100, 0)])
def test_room_is_kept_for_the_answer(context: int, max_tokens: int | None, most: int) -> None:
    assert most_tokens(context, max_tokens) == most


def test_a_call_and_its_result_are_left_out_together_and_tools_stay() -> None:
    def turn(number: int) -> tuple[Message, ...]:
        call = ToolCall(f"c{number}", "f", '{"a": "' + "word " * 50 + '"}')
        answer, result = Message("assistant", f"a{number} " * 20), Message("tool", "r " * 20, tool_call_id=call.ident)
        return (Message("user", f"q{number}"), Message("assistant", "", (call,)), result, answer)

    tools = (Tool("f", "word " * 30, {"type": "object"}),)
    prompt = ChatPrompt((*turn(0), *turn(1), *turn(2), Message("user", "last")), tools, {"x": 1})
    for most in range(60, 420, 20):
        model = Model()
        encoded, left_out = trim(prompt, most, model, model.encode)
        left = model.encoded[-1]
        assert left_out % 4 == 0
        assert left.messages == prompt.messages[left_out:]
        assert (left.tools, left.template_variables) == (tools, {"x": 1})
        assert len(encoded) <= most or left_out == 12
