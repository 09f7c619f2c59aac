"""Conversations that are longer than the context: refused, or trimmed where the request asks for it."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from support.serving import MODEL, Running, running
from vicuna_server.engine import ChatPrompt
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.prompts import Message

AUTO = {"truncation": "auto"}


def talk(*roles: str, words: int = 4) -> list[Any]:
    """Messages whose words are numbered, `words` each: a token per word."""
    return [{"role": role, "content": f"{index} " * words} for index, role in enumerate(roles)]


LONG = talk("system", "user", "assistant", "user", "assistant", "user")


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running(ScriptedEngine(ScriptedSettings(tokens=2, context_length=20))) as live:
        yield live


async def test_too_long_is_refused_unless_asked(server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="context length is 20"):
        await server.client.chat.completions.create(model=MODEL, messages=LONG)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_oldest_turns_go_and_it_is_said(server: Running, stream: bool) -> None:
    raw = await server.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=LONG, max_tokens=2, extra_body=AUTO, stream=stream
    )
    assert raw.headers["x-vicuna-trimmed-messages"] == "2"
    whole = await server.client.chat.completions.create(model=MODEL, messages=LONG, max_tokens=2, extra_body=AUTO)
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == 16  # system, and the last three messages


async def test_what_fits_is_left_alone(server: Running) -> None:
    raw = await server.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=talk("user", "assistant", "user"), extra_body=AUTO
    )
    assert "x-vicuna-trimmed-messages" not in raw.headers


async def test_a_last_turn_that_is_too_long_alone_is_refused(server: Running) -> None:
    messages = [*LONG[:-1], *talk("user", words=30)]
    with pytest.raises(openai.BadRequestError, match="context length is 20"):
        await server.client.chat.completions.create(model=MODEL, messages=messages, extra_body=AUTO)


@pytest.mark.parametrize(
    ("roles", "max_tokens", "kept"),
    [
        ("susauau", 8, "ssuau"),  # system messages stay wherever they are
        ("auau", 12, "u"),
        ("uuauu", 8, "uu"),  # neighbours of one role are one turn
        ("aaa", 18, "aaa"),  # a last turn is never cut
        ("uauau", None, "uau"),  # a quarter of the context is the answer's
    ],
)
async def test_whole_turns_are_left_out(roles: str, max_tokens: int | None, kept: str) -> None:
    names: dict[str, Any] = {"s": "system", "u": "user", "a": "assistant"}
    prompt = ChatPrompt(tuple(Message(names[role], "w w w w") for role in roles))
    engine = ScriptedEngine(ScriptedSettings(context_length=28 if "s" in roles else 20))
    prepared = await engine.prepare(prompt, max_tokens, trim=True)
    assert prepared.left_out == len(roles) - len(kept)
    assert prepared.tokens == 4 * len(kept)
