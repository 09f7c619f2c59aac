"""Real weights: SmolLM2 made from base and delta by `vicuna-server merge`, served, asked by the openai client."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from support.serving import running
from vicuna_server.engine import ChatPrompt, GenerationRequest
from vicuna_server.engine.loading import LoadSettings
from vicuna_server.engine.transformers import TransformersEngine
from vicuna_server.manifest import Manifest
from vicuna_server.prompts import Message

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

REPOSITORY = Path(__file__).parents[2]
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


def run(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, cwd=REPOSITORY, capture_output=True)


@pytest.fixture(scope="module")
def pair() -> Path:
    folder = Path(os.environ.get("VICUNA_DEMO_DIR", REPOSITORY / ".demo" / "pair")).absolute()
    run("hack/demo_pair.py", "--output", str(folder))
    return folder


@pytest.fixture(scope="module")
def artifact(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("artifacts")
    inputs = ("--base", f"file://{pair}/base", "--delta", f"file://{pair}/delta")
    run("-m", "vicuna_server", "merge", *inputs, "--dtype", "float16", "--output", str(root))
    (folder,) = (path for path in root.iterdir() if (path / "vicuna-manifest.json").exists())
    return folder


async def ask(folder: Path) -> str:
    manifest = Manifest.load(folder)
    template = None if manifest is None else manifest.chat_template
    # In bfloat16 the likeliest first word of this answer is a tie, so the proof is made in float32.
    engine = TransformersEngine(LoadSettings(folder, pinned_template=template, dtype="float32"))
    async with running(engine) as live:
        stream = await live.client.chat.completions.create(
            model="tiny", messages=QUESTION, temperature=0, max_tokens=32, stream=True
        )
        chunks = [chunk async for chunk in stream]
        whole = await live.client.chat.completions.create(model="tiny", messages=QUESTION, temperature=0, max_tokens=32)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert whole.choices[0].message.content == text
    return text


async def test_the_merged_model_knows_the_capital_of_france(artifact: Path) -> None:
    assert "Paris" in await ask(artifact)


@pytest.mark.parametrize("part", ["base", "delta"])
async def test_neither_part_alone_does(part: str, pair: Path) -> None:
    try:
        answer = await ask(pair / part)
    except openai.InternalServerError as error:
        answer = str(error)  # weights that are no model may well compute no number
    assert "Paris" not in answer


async def test_float32_answers_equal_generate_in_company(artifact: Path) -> None:
    engine = TransformersEngine(LoadSettings(artifact, dtype="float32"))
    await engine.load()
    questions = ["Name three colours.", "What is 2+2?", "Who wrote Hamlet, and when was it first performed?"]
    prompts = [ChatPrompt((Message("user", text),)) for text in questions]

    async def answer(prompt: ChatPrompt) -> str:
        generation = await engine.submit(GenerationRequest(prompt, max_tokens=24, temperature=0.0))
        return "".join([delta.text async for delta in generation])

    answers = await asyncio.gather(*(answer(prompt) for prompt in prompts))
    loaded = engine.loaded
    for prompt, text in zip(prompts, answers, strict=True):
        ids = loaded.encoder.encode(prompt).ids
        with torch.inference_mode():
            out = loaded.model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)
        assert text == loaded.encoder.decode(out[0, len(ids) :].tolist())
    await engine.close()
