"""The thread that encodes prompts: what would take it long is refused before, nothing is encoded twice, and a call
without end makes `/livez` fail."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from support.serving import MODEL, Running, running, write_tiny_model
from vicuna_server.engine import Engine, GenerationRequest
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.builtin.loading import LoadSettings
from vicuna_server.engine.encoding import PromptEncoder
from vicuna_server.engine.limits import FEW_CONTEXTS
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.errors import OverloadedError

CONTEXT = 512
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model whose tokens are letters."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", context=CONTEXT)


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[Running]:
    engine = BuiltinEngine(LoadSettings(folder, dtype="float32", max_concurrency=2))
    async with running(engine, accepts_token_ids=True) as live:
        yield live


def encoder(live: Running) -> PromptEncoder:
    assert isinstance(live.engine, BuiltinEngine)
    return live.engine.loaded.encoder


@contextmanager
def calls(live: Running) -> Iterator[list[str]]:
    """What the tokenizer is called with."""
    seen: list[str] = []
    tokenizer = encoder(live)._tokenizer
    real = tokenizer.encode

    def spied(text: str, **options: Any) -> list[int]:
        seen.append(text)
        return real(text, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "encode", spied)
        yield seen


def talk(count: int, letters: int) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[index % 2], "content": "x" * letters} for index in range(count)]


async def test_a_conversation_of_four_megabytes_is_encoded_at_most_twice(server: Running) -> None:
    body = {"model": MODEL, "messages": talk(1899, 2100), "truncation": "auto", "max_tokens": 2, "n": 3}
    with calls(server) as seen:
        answer = await server.http.post(CHAT, json=body)
    # none of its messages fits alone, the last neither
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert seen == []
    with calls(server) as seen:
        answer = await server.http.post(CHAT, json={**body, "messages": [*talk(1890, 2100), *talk(7, 40)]})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-vicuna-trimmed-messages"] == "1890"
    assert sum("<user>" in text for text in seen) <= 2
    assert sum(map(len, seen)) < 4 * CONTEXT
    assert answer.json()["usage"]["prompt_tokens"] < CONTEXT


async def test_each_prompt_is_encoded_once_whatever_n(server: Running) -> None:
    body = {"model": MODEL, "prompt": ["one", "two"], "n": 4, "max_tokens": 2, "temperature": 1.0, "seed": 1}
    with calls(server) as seen:
        answer = await server.http.post("/v1/completions", json=body)
    assert answer.status_code == 200
    assert seen == ["one", "two"]
    assert len({choice["text"] for choice in answer.json()["choices"][:4]}) > 1, "each goes on by itself"
    assert answer.json()["usage"]["prompt_tokens"] == 6


MOST = FEW_CONTEXTS * CONTEXT


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"prompt": "x" * (5 * MOST)}),
        ("/tokenize", {"messages": talk(2000, 2000)}),
        ("/tokenize", {"messages": talk(2, 4 * MOST)}),
        ("/detokenize", {"tokens": [1] * (MOST + 1)}),
        ("/v1/embeddings", {"model": MODEL, "input": ["x", "x" * 100_000]}),
        ("/v1/embeddings", {"model": MODEL, "input": [1] * (CONTEXT + 1)}),
        ("/v1/completions", {"model": MODEL, "prompt": "x" * 100_000}),
        ("/v1/completions", {"model": MODEL, "prompt": [1] * 100_000, "echo": True}),
        (CHAT, {"model": MODEL, "messages": talk(1, 100_000)}),
    ],
)
async def test_what_is_far_too_long_is_refused_before_it_is_encoded(
    path: str, body: dict[str, Any], server: Running
) -> None:
    with calls(server) as seen:
        answer = await server.http.post(path, json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert str(CONTEXT) in error["message"]
    assert seen == []


async def test_what_a_template_adds_counts_before_it_is_encoded(tmp_path: Path) -> None:
    long = "{% if messages[0].content == 'long' %}{% for i in range(99999) %}0123456789{% endfor %}{% endif %}hi"
    folder = write_tiny_model(tmp_path / "model", context=CONTEXT, chat_template=long)
    async with running(BuiltinEngine(LoadSettings(folder, dtype="float32"))) as live:
        messages = [{"role": "user", "content": "long"}]
        with calls(live) as seen:
            for path in (CHAT, "/tokenize"):
                answer = await live.http.post(path, json={"model": MODEL, "messages": messages})
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert seen == []


@pytest.mark.parametrize("make", ["scripted", "real"])
async def test_as_much_as_a_few_contexts_is_tokenized(make: str, folder: Path) -> None:
    engine: Engine = ScriptedEngine(ScriptedSettings(context_length=CONTEXT))
    if make == "real":
        engine = BuiltinEngine(LoadSettings(folder, dtype="float32"))
    async with running(engine) as live:
        answer = await live.http.post("/tokenize", json={"prompt": "x " * (MOST // 2), "add_special_tokens": False})
        tokens = answer.json()["tokens"]
        assert 0 < len(tokens) <= MOST
        back = await live.http.post("/detokenize", json={"tokens": tokens})
        assert back.json()["prompt"].strip() == ("x " * (MOST // 2)).strip()
        if make == "scripted":
            for path, body in (("/tokenize", {"prompt": "x " * (MOST + 1)}), ("/detokenize", {"tokens": [0] * 9999})):
                refused = await live.http.post(path, json=body)
                assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_prompts_that_wait_to_be_encoded_count_as_waiting(server: Running) -> None:
    engine, release = server.engine, threading.Event()
    assert isinstance(engine, BuiltinEngine)
    holding = asyncio.create_task(engine._encoding.run(release.wait))
    try:
        room = 2 + 2 * 4 - 1
        accepted = [asyncio.create_task(engine.submit(GenerationRequest("a", max_tokens=1))) for _ in range(room)]
        await asyncio.sleep(0)
        with calls(server) as seen:
            for late in (engine.submit(GenerationRequest("b")), engine.tokenize("b"), engine.detokenize([1])):
                with pytest.raises(OverloadedError):
                    await late
            with pytest.raises(OverloadedError):
                await engine.embed(["b"])
        assert seen == []
    finally:
        release.set()
    await holding
    for generation in await asyncio.gather(*accepted):
        async with generation:
            assert [delta.tokens async for delta in generation][-1] == 1


async def test_an_encoding_without_end_fails_livez(server: Running) -> None:
    engine, release = server.engine, threading.Event()
    assert isinstance(engine, BuiltinEngine)
    engine._encoding._hung_seconds = 0.3
    one, tokenizer = encoder(server), encoder(server)._tokenizer

    class Slow:
        def encode(self, text: str, **options: Any) -> Any:
            release.wait()
            return tokenizer.encode(text, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

    assert (await server.http.get("/livez")).status_code == 200
    one._tokenizer = cast(Any, Slow())
    try:
        answer = await server.http.post("/v1/completions", json={"model": MODEL, "prompt": "a", "max_tokens": 1})
        assert answer.status_code == 500
        assert "has been encoded for more than" in answer.json()["error"]["message"]
        livez = await server.http.get("/livez")
        assert (livez.status_code, livez.text) == (503, "hung\n")
    finally:
        release.set()
