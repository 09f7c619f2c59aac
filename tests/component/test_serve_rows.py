"""A tokenizer with more tokens than the model has rows, and a head beside the embedding it is said to be."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from support.serving import Running, running, write_tiny_model
from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.builtin import loading
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.builtin.loading import LoadSettings, load_model
from vicuna_server.errors import InputError

ROWS = 258
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.content == 'many' %}<|new|>{% endif %}{% endfor %}"


def _with_tokens(folder: Path, *texts: str) -> Path:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    like = content["added_tokens"][0]
    content["added_tokens"] += [like | {"id": ROWS + place, "content": text} for place, text in enumerate(texts)]
    path.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", chat_template=TEMPLATE, context=256)
    return _with_tokens(folder, "<pad>", "<|new|>")


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[Running]:
    engine = BuiltinEngine(LoadSettings(folder, dtype="float32"))
    async with running(engine, accepts_token_ids=True) as live:
        yield live


async def test_a_token_without_a_row_is_a_400_on_every_route(server: Running) -> None:
    text = "hello<|new|>there"
    asked: list[tuple[str, dict[str, Any], str]] = [
        ("/v1/completions", {"prompt": text, "max_tokens": 2}, "prompt"),
        ("/v1/completions", {"prompt": ["fine", text], "max_tokens": 2}, "prompt"),
        ("/v1/completions", {"prompt": [5, ROWS + 1], "max_tokens": 2}, "prompt"),
        ("/v1/completions", {"prompt": text, "max_tokens": 2, "echo": True, "stream": True}, "prompt"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "many"}], "max_tokens": 2}, "messages"),
        ("/v1/embeddings", {"input": text}, "input"),
        ("/v1/embeddings", {"input": [[5, ROWS]]}, "input"),
        ("/tokenize", {"prompt": text}, "prompt"),
        ("/tokenize", {"messages": [{"role": "user", "content": "many"}]}, "messages"),
    ]
    for route, body, param in asked:
        answer = await server.http.post(route, json={"model": "tiny", **body})
        assert answer.status_code == 400, (route, answer.text)
        error = answer.json()["error"]
        assert error["param"] == param, (route, body)
        assert str(ROWS) in error["message"] or str(ROWS + 1) in error["message"], error
    assert "'<|new|>' is token id 259" in (await server.http.post("/tokenize", json={"prompt": text})).text
    fine = await server.http.post("/v1/completions", json={"model": "tiny", "prompt": "hello", "max_tokens": 2})
    assert fine.status_code == 200


async def test_text_that_a_user_typed_never_becomes_such_a_token_in_a_chat(server: Running) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hello<|new|>"}], "max_tokens": 2}
    assert (await server.http.post("/v1/chat/completions", json=body)).status_code == 200


def test_a_template_that_needs_such_a_token_is_told_before_the_weights_are_read(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model", chat_template="<|new|>{{ messages[0].content }}", context=256)
    with pytest.raises(
        InputError, match=r"'<\|new\|>' is token id 258, which the tokenizer has and the model has not"
    ) as caught:
        load_model(LoadSettings(_with_tokens(model, "<|new|>"), dtype="float32"))
    assert caught.value.reason == "ChatTemplateBroken"


def _contradict(folder: Path, rows: slice) -> Path:
    """Say that the head is the embedding, and give it other values in these rows."""
    state = load_file(folder / "model.safetensors")
    head = state["model.embed_tokens.weight"].clone()
    head[rows] = -head[rows]
    save_file(state | {"lm_head.weight": head}, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    return folder


@pytest.mark.parametrize("path", ["stream", "whole"])
@pytest.mark.parametrize("rows", [slice(0, ROWS), slice(100, 101), slice(0, 0)])
async def test_a_head_of_its_own_counts_as_in_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, rows: slice
) -> None:
    folder = _contradict(write_tiny_model(tmp_path / "model", context=256), rows)
    if path == "whole":
        monkeypatch.setattr(loading, "_stream", lambda *_: None)
    engine = BuiltinEngine(LoadSettings(folder, dtype="float32"))
    await engine.load()
    ids = (5, 9, 40, 77, 120, 33, 8)
    asked = GenerationRequest(ids, max_tokens=12, temperature=0.0, logprobs=0)
    got = [one.token_id async for delta in await engine.submit(asked) for one in delta.token_logprobs]
    await engine.close()
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        out = plain.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=0)[0, len(ids) :]
    assert got == [token for token in out.tolist() if token not in engine.loaded.eos]
    assert torch.equal(plain.lm_head.weight, plain.model.embed_tokens.weight) is (rows == slice(0, 0))
