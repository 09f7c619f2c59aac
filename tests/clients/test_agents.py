"""OpenAI's Agents SDK: its own API by default, chat completions where told."""

import asyncio

import openai
import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from refusals import refused

set_tracing_disabled(True)
SETTINGS = ModelSettings(max_tokens=8, temperature=0, include_usage=True)


@pytest.fixture
def client(base_url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)


@function_tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


def test_chat_stream_and_usage(client: openai.AsyncOpenAI, model: str) -> None:
    agent = Agent(
        "a", instructions="Be brief", model=OpenAIChatCompletionsModel(model, client), model_settings=SETTINGS
    )

    async def streamed() -> str:
        result = Runner.run_streamed(agent, "Hi")
        async for _ in result.stream_events():
            pass
        assert result.context_wrapper.usage.output_tokens == 8
        return str(result.final_output)

    async def both() -> tuple[str, str]:
        return str((await Runner.run(agent, "Hi")).final_output), await streamed()

    whole, pieces = asyncio.run(both())
    assert whole == pieces


def test_an_agent_with_a_tool_is_refused(client: openai.AsyncOpenAI, model: str) -> None:
    agent = Agent("a", model=OpenAIChatCompletionsModel(model, client), tools=[weather])
    with refused("tools"):
        Runner.run_sync(agent, "Weather in Paris?")


def test_its_default_says_the_same(client: openai.AsyncOpenAI, model: str) -> None:
    def agent(chosen: OpenAIResponsesModel | OpenAIChatCompletionsModel, **body: object) -> Agent[None]:
        settings = ModelSettings(max_tokens=8, temperature=0, extra_body=body)
        return Agent("a", instructions="Be brief", model=chosen, model_settings=settings)

    async def streamed(**body: object) -> str:
        result = Runner.run_streamed(agent(OpenAIResponsesModel(model, client), **body), "Hi")
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    async def compare() -> None:
        chat = str((await Runner.run(agent(OpenAIChatCompletionsModel(model, client)), "Hi")).final_output)
        whole = await Runner.run(agent(OpenAIResponsesModel(model, client)), "Hi")
        assert whole.final_output == chat
        assert whole.context_wrapper.usage.output_tokens == 8
        # its streams raise on an answer that was cut, so this one ends by itself
        assert await streamed(stop=chat[-1]) == chat.partition(chat[-1])[0]

    asyncio.run(compare())
