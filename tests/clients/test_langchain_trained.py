"""LangChain on a trained model: an agent that plans, calls, reads and answers, and a chat about documents.

SmolLM2 is small, so what it says is judged by its form.
"""

from typing import Any, Literal

import pytest
from conftest import TRAINED, Served
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field, SecretStr

pytestmark = pytest.mark.parametrize("actor", [TRAINED], indirect=True)

NO_KEY = SecretStr("none")
NOTES = [
    "Tina the llama lives in a barn in Peru and eats hay.",
    "The printer on the third floor needs new toner.",
    "def add(a, b): return a + b",
]
MOST_COMMANDS = 3


class Plan(BaseModel):
    """What the agent is going to do."""

    goal: str = Field(max_length=60)
    steps: list[Literal["search", "finish"]] = Field(min_length=1, max_length=3)


class Query(BaseModel):
    """What is looked for."""

    query: str = Field(min_length=1, max_length=40)


class Reason(BaseModel):
    """Why the work is done."""

    reason: str = Field(max_length=40)


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def chat(actor: Served, request: pytest.FixtureRequest) -> ChatOpenAI:
    place = {"model": actor.model, "base_url": actor.base_url, "api_key": NO_KEY}
    return ChatOpenAI(**place, temperature=0, max_tokens=160, max_retries=0, use_responses_api=request.param)


@pytest.fixture
def store(actor: Served) -> InMemoryVectorStore:
    place = {"model": actor.model, "base_url": actor.base_url, "api_key": NO_KEY}
    made = InMemoryVectorStore(OpenAIEmbeddings(**place, check_embedding_ctx_length=False, max_retries=0))
    made.add_documents([Document(note, metadata={"place": place}) for place, note in enumerate(NOTES)])
    return made


def test_an_agent_plans_calls_reads_and_answers(chat: ChatOpenAI, store: InMemoryVectorStore) -> None:
    @tool(args_schema=Query)
    def search(query: str) -> str:
        """Search the notes."""
        return store.similarity_search(query, k=1)[0].page_content

    @tool(args_schema=Reason)
    def finish(reason: str) -> str:
        """End the work."""
        return f"done: {reason}"

    commands = {"search": search, "finish": finish}
    history: list[Any] = [
        SystemMessage("You are an agent with two commands, search and finish. Plan first."),
        HumanMessage("Where does Tina the llama live? Search the notes."),
    ]
    plan = chat.with_structured_output(Plan, method="json_schema").invoke(history)
    assert isinstance(plan, Plan)
    assert 1 <= len(plan.steps) <= 3
    history += [AIMessage(plan.model_dump_json()), HumanMessage("Take the next step.")]
    actor = chat.bind_tools(list(commands.values()), tool_choice="required", parallel_tool_calls=False)
    for _ in range(MOST_COMMANDS):
        said = actor.invoke(history)
        (call,) = said.tool_calls
        assert (said.text, said.invalid_tool_calls) == ("", [])
        history += [said, commands[call["name"]].invoke(call)]
        assert history[-1].tool_call_id == call["id"]
        if call["name"] == "finish":
            break
    answer = chat.bind_tools(list(commands.values()), tool_choice="none").invoke(history)
    assert answer.tool_calls == []
    assert answer.text.strip()
    pairs = [message.type for message in history[4:]]
    assert pairs == ["ai", "tool"] * (len(pairs) // 2)
    assert {result.content for result in history[5::2]} & {*NOTES} or pairs == ["ai", "tool"]


def test_a_chat_about_documents(chat: ChatOpenAI, store: InMemoryVectorStore) -> None:
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer from this note: {note}"), ("placeholder", "{history}"), ("user", "{question}")]
    )
    history: list[Any] = []
    for question, place in (("Where does Tina the llama live, and what does she eat?", 0), ("Who needs toner?", 1)):
        (found,) = store.as_retriever(search_kwargs={"k": 1}).invoke(question)
        assert found.page_content == NOTES[found.metadata["place"]]
        asked = {"note": found.page_content, "history": history, "question": question}
        answer = (prompt | chat).invoke(asked)
        assert answer.text.strip()
        first, *others = (prompt | chat).stream(asked)
        assert sum(others, first).text == answer.text
        assert answer.usage_metadata is not None
        assert answer.usage_metadata["output_tokens"] > 0
        history += [HumanMessage(question), AIMessage(answer.text)]
        if place == 0:
            assert found.metadata["place"] == place
            assert "hay" in answer.text
