"""LlamaIndex: chats, completions and vectors of a server that is like OpenAI's."""

import openai
import pytest
from conftest import Served
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai_like import OpenAILike
from weather import QUESTION, City, weather


def llm(base_url: str, model: str, *, is_chat_model: bool = True, max_tokens: int = 8) -> OpenAILike:
    return OpenAILike(
        model=model,
        api_base=base_url,
        api_key="none",
        is_chat_model=is_chat_model,
        is_function_calling_model=True,
        max_tokens=max_tokens,
        temperature=0,
        max_retries=0,
        context_window=4096,
    )


@pytest.mark.parametrize("is_chat_model", [True, False], ids=["chat", "completion"])
def test_text_and_stream(base_url: str, model: str, is_chat_model: bool) -> None:
    subject = llm(base_url, model, is_chat_model=is_chat_model)
    whole = subject.complete("Hi").text
    assert "".join(piece.delta or "" for piece in subject.stream_complete("Hi")) == whole


def test_embeddings(speaker: Served) -> None:
    place = {"model_name": speaker.model, "api_base": speaker.base_url}
    embedder = OpenAIEmbedding(**place, api_key="none", max_retries=0)
    assert [len(one) for one in embedder.get_text_embedding_batch(["a", "b"])] == [speaker.dimensions] * 2


def test_a_tool_and_its_result(actor: Served) -> None:
    subject = llm(actor.base_url, actor.model, max_tokens=200)
    first = {"tool_required": actor.first["tool_choice"] == "required"}
    tool = FunctionTool.from_defaults(fn=weather)
    asked = ChatMessage(role="user", content=QUESTION)
    called = subject.chat_with_tools([tool], user_msg=asked, **first)
    (call,) = subject.get_tool_calls_from_response(called)
    assert (call.tool_name, set(call.tool_kwargs)) == ("weather", {"city"})
    *_, last = subject.stream_chat_with_tools([tool], user_msg=asked, **first)
    assert subject.get_tool_calls_from_response(last)[0].tool_kwargs == call.tool_kwargs
    content = str(tool.call(**call.tool_kwargs))
    result = ChatMessage(role="tool", content=content, additional_kwargs={"tool_call_id": call.tool_id})
    answer = subject.chat_with_tools([tool], chat_history=[asked, called.message, result])
    assert "sunny" in str(answer.message.content)


def test_objects(actor: Served) -> None:
    subject = llm(actor.base_url, actor.model, max_tokens=200).as_structured_llm(City)
    assert isinstance(subject.complete("Capital?").raw, City)


def test_errors_are_those_of_the_official_client(base_url: str) -> None:
    with pytest.raises(openai.NotFoundError):
        llm(base_url, "nope").complete("Hi")
