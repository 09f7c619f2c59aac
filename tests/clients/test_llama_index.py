"""LlamaIndex: chats, completions and vectors of a server that is like OpenAI's."""

import openai
import pytest
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from refusals import refused


class City(BaseModel):
    """What is asked for."""

    city: str


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


def llm(base_url: str, model: str, *, is_chat_model: bool = True) -> OpenAILike:
    return OpenAILike(
        model=model,
        api_base=base_url,
        api_key="none",
        is_chat_model=is_chat_model,
        is_function_calling_model=True,
        max_tokens=8,
        temperature=0,
        max_retries=0,
        context_window=4096,
    )


@pytest.mark.parametrize("is_chat_model", [True, False], ids=["chat", "completion"])
def test_text_and_stream(base_url: str, model: str, is_chat_model: bool) -> None:
    subject = llm(base_url, model, is_chat_model=is_chat_model)
    whole = subject.complete("Hi").text
    assert "".join(piece.delta or "" for piece in subject.stream_complete("Hi")) == whole


def test_embeddings(base_url: str, model: str) -> None:
    embedder = OpenAIEmbedding(model_name=model, api_base=base_url, api_key="none", max_retries=0)
    assert [len(one) for one in embedder.get_text_embedding_batch(["a", "b"])] == [32, 32]


def test_tools_are_refused(base_url: str, model: str) -> None:
    tool = FunctionTool.from_defaults(fn=weather)
    with refused("tools"):
        llm(base_url, model).chat_with_tools([tool], user_msg="hi")
    with refused("tools"):
        llm(base_url, model).as_structured_llm(City).complete("Capital?")


def test_errors_are_those_of_the_official_client(base_url: str) -> None:
    with pytest.raises(openai.NotFoundError):
        llm(base_url, "nope").complete("Hi")
