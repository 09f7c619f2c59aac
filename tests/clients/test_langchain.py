"""LangChain: chat, stream, and embeddings, whose defaults send another model's token ids."""

import httpx
import openai
import pytest
from conftest import Served
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import SecretStr

NO_KEY = SecretStr("none")


@pytest.fixture
def chat(base_url: str, model: str) -> ChatOpenAI:
    return ChatOpenAI(model=model, base_url=base_url, api_key=NO_KEY, temperature=0, max_retries=0)


def test_chat_and_stream(chat: ChatOpenAI) -> None:
    whole = chat.invoke("Hello", max_tokens=8)
    pieces = [piece.text for piece in chat.stream("Hello", max_tokens=8)]
    assert "".join(map(str, pieces)) == str(whole.text)
    assert len(chat.batch(["a", "b"], max_tokens=2)) == 2
    told = [piece.usage_metadata for piece in chat.stream("Hello", max_tokens=8, stream_usage=True)]
    assert [usage["output_tokens"] for usage in told if usage] == [8]


def test_responses(base_url: str, model: str) -> None:
    settings = {"model": model, "base_url": base_url, "api_key": NO_KEY, "max_tokens": 8, "temperature": 0}
    chat = ChatOpenAI(**settings, use_responses_api=True, max_retries=0)
    whole = chat.invoke("Hi")
    assert whole.usage_metadata["output_tokens"] == 8
    assert "".join(piece.text for piece in chat.stream("Hi")) == whole.text


@pytest.mark.parametrize("through_gateway", [False], ids=["server"], indirect=True)
def test_tokens_are_counted_by_the_server(speaker: Served) -> None:
    def ids(text: str) -> list[int]:
        address = speaker.base_url.removesuffix("/v1") + "/tokenize"
        asked = {"model": speaker.model, "prompt": text, "add_special_tokens": False}
        found: list[int] = httpx.post(address, json=asked).raise_for_status().json()["tokens"]
        return found

    # without this it takes the tokenizer of a model of OpenAI's, from the network
    place = {"model": speaker.model, "base_url": speaker.base_url, "api_key": NO_KEY}
    chat = ChatOpenAI(**place, custom_get_token_ids=ids)
    assert chat.get_num_tokens("hello") == {"tiny": 5, "trained": 1}[speaker.model]


def test_completions(base_url: str, model: str) -> None:
    assert isinstance(OpenAI(model=model, base_url=base_url, api_key=NO_KEY, max_tokens=4).invoke("Hello"), str)


def test_embeddings_with_defaults_say_which_switch_is_wrong_and_work_without(
    speaker: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    base_url, model, *_ = speaker
    ids = OpenAIEmbeddings(model=model, base_url=base_url, api_key=NO_KEY, max_retries=0)
    # its tokenizer would be fetched from the network; what it does with the ids is the same
    monkeypatch.setattr(OpenAIEmbeddings, "_tokenize", lambda *_: ([[1, 2, 3]], [[1, 2, 3]], [0], [3]))
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        ids.embed_documents(["A cat sat on the mat."])
    texts = OpenAIEmbeddings(model=model, base_url=base_url, api_key=NO_KEY, check_embedding_ctx_length=False)
    assert [len(one) for one in texts.embed_documents(["A cat sat on the mat.", "hello"])] == [speaker.dimensions] * 2
