"""Embeddings, token ids and log probabilities of the two engines."""

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch

from support.serving import write_tiny_model
from vicuna_server.engine import ChatPrompt, Engine
from vicuna_server.engine.loading import LoadSettings
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.engine.transformers import TransformersEngine
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", context=256)


@pytest.fixture
async def real(folder: Path) -> AsyncIterator[TransformersEngine]:
    subject = TransformersEngine(LoadSettings(folder, dtype="float32"))
    await subject.load()
    yield subject
    await subject.close()


@pytest.fixture(params=["real", "scripted"])
async def engine(request: pytest.FixtureRequest, real: TransformersEngine) -> Engine:
    return real if request.param == "real" else ScriptedEngine(ScriptedSettings(context_length=256))


async def test_vectors_have_length_one_and_count_their_tokens(engine: Engine) -> None:
    ids = await engine.tokenize("one two three")
    first, second, same = await engine.embed(["one two three", "four", tuple(ids)])
    assert first.tokens == len(ids)
    for embedding in (first, second):
        assert math.isclose(math.hypot(*embedding.vector), 1.0, rel_tol=1e-5)
    assert first.vector == pytest.approx(same.vector)
    assert first.vector != pytest.approx(second.vector, abs=1e-3)


async def test_a_vector_is_the_mean_of_the_last_hidden_states(real: TransformersEngine) -> None:
    ids = await real.tokenize("Hello")
    with torch.inference_mode():
        hidden = real.loaded.model.base_model(torch.tensor([ids])).last_hidden_state[0]
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
async def test_an_id_that_is_no_token_is_refused(engine: Engine, token: int) -> None:
    with pytest.raises(RequestError, match=f"token id {token} is not in the vocabulary"):
        await engine.detokenize([token])
    with pytest.raises(RequestError, match="not in the vocabulary"):
        await engine.embed([(token,)])
