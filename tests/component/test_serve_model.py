"""Real weights: SmolLM2 made from base and delta by `vicuna-server merge`, served, asked by the openai client."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
import torch
from transformers import AutoModelForCausalLM

from support.schemas import SCHEMAS
from support.serving import running, tiny_engine
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.constraints import JsonSchema
from vicuna_server.engine import ChatPrompt, GenerationRequest
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.builtin.loading import LoadSettings
from vicuna_server.engine.grammar.process import grammar_of
from vicuna_server.engine.opening import check_folder, create_engine
from vicuna_server.engine.scripted.grammar import sample
from vicuna_server.errors import InputError
from vicuna_server.prompts import Message

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


def _with_another_bit(artifact: Path, place: Path) -> Path:
    """Copy an artifact and change the last bit but eight of its weights."""
    folder = Path(shutil.copytree(artifact, place / artifact.name))
    with next(folder.glob("*.safetensors")).open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        (low,) = file.read(1)
        file.seek(-2, os.SEEK_END)
        file.write(bytes([low ^ 1]))
    return folder


async def test_weights_that_somebody_changed_are_not_served(smollm2: Path, tmp_path: Path) -> None:
    folder = _with_another_bit(smollm2, tmp_path)
    manifest = check_folder(folder, smollm2.name)
    assert manifest is not None
    check_folder(folder, smollm2.name, manifest.digest)
    engine = create_engine(LoadSettings(folder, dtype="float32", files=tuple(manifest.files)))
    with pytest.raises(InputError, match="safetensors has other bytes") as caught:
        await engine.load()
    assert caught.value.reason == "ArtifactDamaged"
    await engine.close()


async def ask(folder: Path) -> str:
    manifest = Manifest.load(folder)
    template = None if manifest is None else manifest.chat_template
    # In bfloat16 the likeliest first word of this answer is a tie, so the proof is made in float32.
    engine = BuiltinEngine(LoadSettings(folder, pinned_template=template, dtype="float32"))
    async with running(engine) as live:
        stream = await live.client.chat.completions.create(
            model="tiny", messages=QUESTION, temperature=0, max_tokens=32, stream=True
        )
        chunks = [chunk async for chunk in stream]
        whole = await live.client.chat.completions.create(model="tiny", messages=QUESTION, temperature=0, max_tokens=32)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert whole.choices[0].message.content == text
    return text


async def test_the_merged_model_knows_the_capital_of_france(smollm2: Path) -> None:
    assert "Paris" in await ask(smollm2)


@pytest.mark.parametrize("part", [pytest.param("base", marks=pytest.mark.full), "delta"])
async def test_neither_part_alone_does(part: str, smollm2_pair: Path) -> None:
    try:
        answer = await ask(smollm2_pair / part)
    except openai.InternalServerError as error:
        answer = str(error)  # random weights may give logits that are not finite
    assert "Paris" not in answer


QUESTIONS = [
    "Name three colours.",
    "What is 2+2?",
    "Who wrote Hamlet, and when was it first performed?",
    "Write a limerick about a cat that fell into a bucket of blue paint and liked it.",
    "Translate to French: the house is small.",
    "List the planets. " * 12,
    "Explain in one paragraph how a bicycle stays upright while it moves.",
    "def fibonacci(n):",
]
NEAR_TIE = 1e-3
"""Where the two likeliest tokens are so close, rounding decides, and either answer is right."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("questions", [QUESTIONS[-4:], pytest.param(QUESTIONS, marks=pytest.mark.full)], ids=len)
async def test_float32_tokens_equal_those_of_generate_alone_and_in_company(questions: list[str], smollm2: Path) -> None:
    engine = BuiltinEngine(LoadSettings(smollm2, dtype="float32"))
    await engine.load()
    prompts = [ChatPrompt((Message("user", text),)) for text in questions]

    async def answer(prompt: ChatPrompt) -> list[int]:
        generation = await engine.submit(GenerationRequest(prompt, max_tokens=12, temperature=0.0, logprobs=0))
        return [one.token_id async for delta in generation for one in delta.token_logprobs]

    alone = [await answer(prompt) for prompt in prompts]
    together = await asyncio.gather(*(answer(prompt) for prompt in prompts))
    reference: Any = AutoModelForCausalLM.from_pretrained(smollm2, dtype="float32").eval()
    for prompt, *answers in zip(prompts, alone, together, strict=True):
        ids = engine.loaded.encoder.encode(prompt).ids
        with torch.inference_mode():
            out = reference.generate(
                torch.tensor([ids]),
                max_new_tokens=12,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
        wanted = out.sequences[0, len(ids) :].tolist()
        for tokens in answers:
            assert_equal_but_for_ties(tokens, [token for token in wanted if token not in engine.loaded.eos], out.logits)
    await engine.close()


def assert_equal_but_for_ties(tokens: list[int], wanted: list[int], logits: tuple[torch.Tensor, ...]) -> None:
    for step, (token, right) in enumerate(zip(tokens, wanted, strict=False)):
        if token != right:
            best = logits[step][0].topk(2).values
            assert best[0] - best[1] < NEAR_TIE
            return
    assert len(tokens) == len(wanted)


ANSWERS, MOST_TOKENS, LEAST_ENDED = 50, 512, 40


def asked_for(schema: Any) -> ChatPrompt:
    """Return what a user would write who wants an object: the schema's own examples of it, or a short one."""
    given = [json.dumps(one) for one in schema.get("examples", ())]
    examples = given or ["".join(sample(grammar_of(JsonSchema(json.dumps(schema)))["text"]))]
    shown = "\n".join(examples)
    return ChatPrompt((Message("user", f"Write one more example of this JSON: {shown}"),))


async def answer_under(schema: Any, engine: BuiltinEngine, seed: int) -> str:
    """Return why an answer at temperature 1 ended; it is valid unless there was no room for more."""
    ready = await engine.constrain(JsonSchema(json.dumps(schema)))
    request = GenerationRequest(asked_for(schema), MOST_TOKENS, temperature=1.0, seed=seed, constraint=ready)
    async with await engine.submit(request) as generation:
        chunks = [chunk async for chunk in generation]
    text, reason = "".join(chunk.text for chunk in chunks), str(chunks[-1].finish_reason)
    assert reason in ("stop", "length")
    if reason == "stop":
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
    return reason


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SCHEMAS)
async def test_answers_under_a_schema_are_valid_and_most_end_by_themselves(name: str, smollm2: Path) -> None:
    async with tiny_engine(smollm2, dtype="auto", max_concurrency=ANSWERS) as engine:
        reasons = await asyncio.gather(*(answer_under(SCHEMAS[name], engine, seed) for seed in range(ANSWERS)))
    ended = reasons.count("stop")
    print(f"{name}: {ended} of {ANSWERS} answers ended by themselves")  # pytest -rP shows it
    assert ended >= LEAST_ENDED
