"""A model without a prompt format: it gets ready, completes and embeds, and refuses conversations by name."""

from pathlib import Path

import pytest

from support.checkpoints import model_weights, write_checkpoint
from support.serving import MODEL, running
from vicuna_server.engine import Engine
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.engine.settings import LoadSettings


def real(folder: Path) -> Engine:
    write_checkpoint(folder, model_weights(1))
    return BuiltinEngine(LoadSettings(folder, chat_template="none", device="cpu", kv_cache_memory=2**24))


def scripted(folder: Path) -> Engine:
    del folder
    return ScriptedEngine(ScriptedSettings(tokens=5), "none")


@pytest.mark.parametrize("make", [real, scripted])
async def test_completions_without_chats(tmp_path: Path, make: object) -> None:
    assert callable(make)
    async with running(make(tmp_path / "model")) as server:
        assert (await server.http.get("/readyz")).status_code == 200
        plain = {"model": MODEL, "prompt": "w1 w2", "max_tokens": 2}
        assert (await server.http.post("/v1/completions", json=plain)).status_code == 200
        assert (await server.http.post("/v1/embeddings", json={"model": MODEL, "input": "w1"})).status_code == 200
        said = {"model": MODEL, "messages": [{"role": "user", "content": "w1"}]}
        for path, body in (
            ("/v1/chat/completions", said),
            ("/v1/chat/completions", said | {"stream": True}),
            ("/v1/chat/completions", said | {"truncation": "auto"}),
            ("/tokenize", said),
        ):
            refused = await server.http.post(path, json=body)
            assert refused.status_code == 400, path
            error = refused.json()["error"]
            assert (error["code"], error["param"]) == ("chat_template_missing", "messages")
            assert "/v1/completions" in error["message"]
