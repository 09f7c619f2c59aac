"""PydanticAI: text, objects in three ways, and a tool."""

import asyncio
from typing import Any

import pytest
from conftest import SCRIPTED, Served
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from weather import BRIEF, QUESTION, ROOM, City, weather


class Town(BaseModel):
    """Any object is one: this form comes without a schema."""

    city: str | None = None


def agent(base_url: str, model: str, **options: Any) -> Agent[None, Any]:
    provider = OpenAIProvider(base_url=base_url, api_key="none")
    return Agent(OpenAIChatModel(model, provider=provider), **{"model_settings": BRIEF, **options})


def test_text_stream_and_usage(base_url: str, model: str) -> None:
    async def both() -> tuple[str, str]:
        whole = await agent(base_url, model).run("Hi")
        async with agent(base_url, model).run_stream("Hi") as stream:
            pieces = [piece async for piece in stream.stream_text(delta=True)]
            assert stream.usage.output_tokens == 8
        return str(whole.output), "".join(pieces)

    whole, pieces = asyncio.run(both())
    assert whole == pieces


@pytest.mark.parametrize(
    ("output", "kind"),
    [(City, City), (NativeOutput(City), City), (PromptedOutput(Town), Town)],
    ids=["tool", "native", "prompted"],
)
def test_objects(actor: Served, output: Any, kind: type[BaseModel]) -> None:
    subject = agent(actor.base_url, actor.model, output_type=output, retries=0, model_settings=ROOM)
    assert isinstance(subject.run_sync("Capital?").output, kind)

    async def streamed() -> Any:
        async with subject.run_stream("Capital?") as stream:
            return await stream.get_output()

    assert isinstance(asyncio.run(streamed()), kind)


@SCRIPTED
def test_a_tool_is_run_and_its_result_answered(actor: Served) -> None:
    done = agent(actor.base_url, actor.model, tools=[weather], retries=0, model_settings=None).run_sync(QUESTION)
    kinds = [part.part_kind for message in done.all_messages() for part in message.parts]
    assert kinds == ["user-prompt", "tool-call", "tool-return", "text"]
    assert "sunny" in done.output


def test_errors_are_of_the_clients_own_kind(base_url: str) -> None:
    with pytest.raises(ModelHTTPError, match="nope") as caught:
        agent(base_url, "nope").run_sync("Hi")
    assert caught.value.status_code == 404
