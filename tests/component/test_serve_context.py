"""A context too small for any chat is an error of its own at start-up."""

import asyncio

from vicuna_server.api.lifecycle import Lifecycle
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.errors import InputError


def test_a_template_longer_than_the_context_is_a_fault_of_the_model() -> None:
    lifecycle = Lifecycle()
    engine = ScriptedEngine(ScriptedSettings(context_length=1), "vicuna_v1.1", 1)

    async def start_up() -> None:
        await lifecycle.start_up(engine)
        await engine.close()

    asyncio.run(start_up())
    assert isinstance(lifecycle.failure, InputError)
    assert lifecycle.failure.reason == "ContextTooSmall"
    assert "does not fit into the context of 1 tokens" in lifecycle.failure.message
    assert "shorten" not in lifecycle.failure.message
