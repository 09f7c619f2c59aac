"""PydanticAI: text, and objects in three ways."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from refusals import refused

BRIEF: Any = {"max_tokens": 8, "temperature": 0}


class City(BaseModel):
    """What is asked for."""

    city: str


def agent(base_url: str, model: str, **options: Any) -> Agent[None, Any]:
    provider = OpenAIProvider(base_url=base_url, api_key="none")
    return Agent(OpenAIChatModel(model, provider=provider), model_settings=BRIEF, **options)


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
    ("output", "field"),
    [(City, "tools"), (NativeOutput(City), "response_format"), (PromptedOutput(City), "response_format")],
    ids=["tool", "native", "prompted"],
)
def test_objects_are_refused(base_url: str, model: str, output: Any, field: str) -> None:
    with refused(field):
        agent(base_url, model, output_type=output, retries=0).run_sync("Capital?")


def test_errors_are_of_the_clients_own_kind(base_url: str) -> None:
    with pytest.raises(ModelHTTPError, match="nope") as caught:
        agent(base_url, "nope").run_sync("Hi")
    assert caught.value.status_code == 404
