"""LangChain: objects in three ways, tools in an agent's loop, and a chat about documents that our vectors find."""

from typing import Any

import pytest
from conftest import SCRIPTED, Served
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr
from weather import BOTH, QUESTION, ROOM, City, weather

NO_KEY = SecretStr("none")
TOOL = tool(weather)
NOTES = ["The llama eats hay.", "zzz zzz zzz zzz", "0123 4567 89 0123"]


@tool
def clock() -> str:
    """Tell the time."""
    return "It is noon"


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def chat(actor: Served, request: pytest.FixtureRequest) -> ChatOpenAI:
    place = {"model": actor.model, "base_url": actor.base_url, "api_key": NO_KEY}
    return ChatOpenAI(**place, **ROOM, max_retries=0, use_responses_api=request.param)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_objects(chat: ChatOpenAI, method: Any) -> None:
    subject = chat.with_structured_output(City, method=method)
    assert isinstance(subject.invoke("The capital of France, in json?"), City)
    *_, last = subject.stream("The capital of France, in json?")
    assert isinstance(last, City)


def test_any_json_object(chat: ChatOpenAI) -> None:
    subject = chat.with_structured_output(City.model_json_schema(), method="json_mode")
    assert isinstance(subject.invoke("The capital of France, in json?"), dict)


def test_calls_come_in_pieces_as_they_come_whole(chat: ChatOpenAI, actor: Served) -> None:
    subject = chat.bind_tools([TOOL], **actor.first)
    (whole,) = subject.invoke(QUESTION).tool_calls
    first, *others = subject.stream(QUESTION)
    (call,) = sum(others, first).tool_calls
    assert (call["name"], call["args"]) == (whole["name"], whole["args"])
    assert chat.bind_tools([TOOL]).invoke("Hello").tool_calls == []
    (forced,) = chat.bind_tools([TOOL], tool_choice="weather").invoke("Hello").tool_calls
    assert forced["name"] == "weather"


def test_a_history_from_elsewhere(chat: ChatOpenAI) -> None:
    called = AIMessage("", tool_calls=[{"id": "1", "name": "weather", "args": {}}])
    history = [HumanMessage("weather?"), called, ToolMessage("sunny", tool_call_id="1")]
    for subject in (chat, chat.bind_tools([TOOL])):
        assert "sunny" in subject.invoke(history).text


def test_an_agents_loop_ends_with_an_answer(chat: ChatOpenAI, actor: Served) -> None:
    subject = chat.bind_tools([TOOL], **actor.first)
    history: list[Any] = [HumanMessage(QUESTION)]
    for _ in range(4):
        history.append(subject.invoke(history))
        if not history[-1].tool_calls:
            break
        history += [TOOL.invoke(call) for call in history[-1].tool_calls]
        subject = chat.bind_tools([TOOL])
    assert [message.type for message in history] == ["human", "ai", "tool", "ai"]
    assert "sunny" in history[-1].text


@SCRIPTED
def test_two_calls_of_one_answer_have_their_results(chat: ChatOpenAI) -> None:
    subject = chat.bind_tools([clock, TOOL])
    whole = subject.invoke(BOTH)
    first, *others = subject.stream(BOTH)
    for message in (whole, sum(others, first)):
        assert [(call["name"], set(call["args"])) for call in message.tool_calls] == [
            ("weather", {"city"}),
            ("clock", set()),
        ]
        results = [{"weather": TOOL, "clock": clock}[call["name"]].invoke(call) for call in message.tool_calls]
        assert len({result.tool_call_id for result in results}) == 2
        answer = subject.invoke([HumanMessage(BOTH), message, *results])
        assert "noon" in answer.text


@SCRIPTED
def test_a_chat_about_documents(actor: Served, chat: ChatOpenAI) -> None:
    place = {"model": actor.model, "base_url": actor.base_url, "api_key": NO_KEY}
    store = InMemoryVectorStore(OpenAIEmbeddings(**place, check_embedding_ctx_length=False))
    store.add_documents([Document(note) for note in NOTES])
    found = store.as_retriever(search_kwargs={"k": 1})
    prompt = ChatPromptTemplate.from_messages([("system", "Answer from this: {notes}"), ("user", "{notes} {question}")])
    asked = {"notes": found | (lambda notes: notes[0].page_content), "question": RunnablePassthrough()}
    answer = (asked | prompt | chat | StrOutputParser()).invoke("What does the llama eat?")
    assert NOTES[0] in answer
