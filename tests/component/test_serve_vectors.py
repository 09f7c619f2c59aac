"""Embeddings, token ids and log probabilities of the two engines."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from support.serving import write_tiny_model
from vicuna_server.engine import ChatPrompt, Engine, GenerationRequest
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.builtin.loading import LoadSettings
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", context=256)


@pytest.fixture
async def real(folder: Path) -> AsyncIterator[BuiltinEngine]:
    subject = BuiltinEngine(LoadSettings(folder, dtype="float32"))
    await subject.load()
    yield subject
    await subject.close()


@pytest.fixture(params=["real", "scripted"])
async def engine(request: pytest.FixtureRequest, real: BuiltinEngine) -> Engine:
    return real if request.param == "real" else ScriptedEngine(ScriptedSettings(context_length=256))


async def test_vectors_have_length_one_and_count_their_tokens(engine: Engine) -> None:
    ids = await engine.tokenize("one two three")
    first, second, same = await engine.embed(["one two three", "four", tuple(ids)])
    assert first.tokens == len(ids)
    for embedding in (first, second):
        assert math.isclose(math.hypot(*embedding.vector), 1.0, rel_tol=1e-5)
        assert len(embedding.vector) == engine.embedding_size
    assert first.vector == pytest.approx(same.vector)
    assert first.vector != pytest.approx(second.vector, abs=1e-3)


async def test_a_vector_is_the_mean_of_the_last_hidden_states(real: BuiltinEngine, folder: Path) -> None:
    ids = await real.tokenize("Hello")
    reference: Any = AutoModel.from_pretrained(folder, dtype="float32")
    with torch.inference_mode():
        hidden = reference(torch.tensor([ids])).last_hidden_state[0]
    wanted = torch.nn.functional.normalize(hidden.mean(dim=0), dim=0)
    (embedding,) = await real.embed(["Hello"])
    assert embedding.vector == pytest.approx(wanted.tolist(), abs=1e-5)


@pytest.mark.parametrize("text", ["", "word " * 300])
async def test_texts_without_a_vector_are_refused(engine: Engine, text: str) -> None:
    with pytest.raises(RequestError, match=r"input|context length") as caught:
        await engine.embed(["fine", text])
    assert caught.value.param == "input"


async def test_ids_go_to_text_and_back(engine: Engine) -> None:
    ids = await engine.tokenize("red green red")
    assert await engine.detokenize(ids) == "red green red"
    chat = ChatPrompt((Message("user", "red"), Message("assistant", "green")))
    assert "green" in await engine.detokenize(await engine.tokenize(chat))


@pytest.mark.parametrize("token", [-1, 2**20])
async def test_an_id_outside_of_the_vocabulary_is_refused(engine: Engine, token: int) -> None:
    with pytest.raises(RequestError, match=f"token id {token} is not in the vocabulary"):
        await engine.detokenize([token])
    with pytest.raises(RequestError, match="not in the vocabulary"):
        await engine.embed([(token,)])


async def test_many_texts_in_one_request(real: BuiltinEngine) -> None:
    texts = [f"text number {index}" for index in range(200)]
    vectors = await real.embed(texts)
    assert len(vectors) == 200
    (alone,) = await real.embed([texts[150]])
    assert vectors[150].vector == pytest.approx(alone.vector, abs=1e-5)
    assert real.stats.running == 0


async def test_log_probabilities_come_with_their_tokens(engine: Engine) -> None:
    asked = GenerationRequest("red green red", max_tokens=5, temperature=0.0, logprobs=3)
    deltas = [delta async for delta in await engine.submit(asked)]
    reported = [one for delta in deltas for one in delta.token_logprobs]
    told = b"".join(one.text_bytes for one in reported).decode(errors="replace")
    assert told.rstrip("\ufffd") == "".join(d.text for d in deltas).rstrip("\ufffd")
    for one in reported:
        assert one.logprob <= 0
        assert one.top[0] == (one.token_id, one.text_bytes, one.logprob)  # greedy takes the likeliest
    plain = [delta async for delta in await engine.submit(GenerationRequest("red", max_tokens=2))]
    assert not any(delta.token_logprobs for delta in plain)


async def test_a_bias_outside_of_the_vocabulary_is_refused(real: BuiltinEngine) -> None:
    with pytest.raises(RequestError, match="token id 258 is not in the vocabulary") as caught:
        await real.submit(GenerationRequest("a", logit_bias=((258, 1.0),)))
    assert caught.value.param == "logit_bias"
