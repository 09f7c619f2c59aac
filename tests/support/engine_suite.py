"""What the engines' contract suite asks, and of whom: every engine there is, loaded, and the server behind it."""

import asyncio
from dataclasses import dataclass
from typing import Any

from support.engines import VllmProcess
from support.serving import eventually
from vicuna_server.engine import Engine, Generation, GenerationRequest, OutputChunk, TokenLogprob
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.engine.vllm.engine import VllmEngine
from vicuna_server.engine.vllm.settings import VllmSettings

__all__ = [
    "BUILTIN",
    "CONTEXT",
    "SCRIPTED",
    "WORDS",
    "Said",
    "Subject",
    "answer",
    "asked",
    "ends_of",
    "idle",
    "new_engine",
]

SCRIPTED, BUILTIN = "scripted", "builtin"
CONTEXT = 1024
WORDS = "alpha beta gamma delta epsilon zeta eta theta"


@dataclass(frozen=True)
class Subject:
    """An engine that is loaded, and the vLLM server behind it, if it has one."""

    kind: str
    engine: Engine
    server: VllmProcess | None

    @property
    def has_tokenizer(self) -> bool:
        """Whether tokens are those of the model; the scripted engine's are words."""
        return self.kind != SCRIPTED


def new_engine(kind: str, load: LoadSettings, server: VllmProcess | None) -> Engine:
    """Return an engine that is not loaded yet."""
    if kind == SCRIPTED:
        settings = ScriptedSettings(tokens=10_000, tokens_per_second=500, context_length=CONTEXT)
        return ScriptedEngine(settings, load.chat_template, load.max_concurrency)
    if kind == BUILTIN:
        from vicuna_server.engine.builtin.engine import BuiltinEngine

        return BuiltinEngine(load)
    assert server is not None
    return VllmEngine(load, VllmSettings(server.url, look_seconds=0.2))


def asked(prompt: Any = WORDS, max_tokens: int | None = 24, **options: Any) -> GenerationRequest:
    # one token in 250 of a random model is its end
    return GenerationRequest(prompt, **{"max_tokens": max_tokens, "temperature": 0.0, "ignore_eos": True, **options})


@dataclass
class Said:
    """An answer that is over."""

    text: str
    last: OutputChunk
    logprobs: list[TokenLogprob]
    generation: Generation


async def answer(subject: Subject, request: GenerationRequest) -> Said:
    async with await subject.engine.submit(request) as generation:
        chunks = [chunk async for chunk in generation]
    text = "".join(chunk.text for chunk in chunks)
    assert [chunk.tokens for chunk in chunks] == sorted(chunk.tokens for chunk in chunks)
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    return Said(text, chunks[-1], [one for chunk in chunks for one in chunk.token_logprobs], generation)


async def idle(subject: Subject) -> None:
    """Wait until nothing runs, here or in the server behind."""
    await eventually(lambda: subject.engine.stats.running == subject.engine.stats.waiting == 0)
    if subject.server is not None:
        server = subject.server
        async with asyncio.timeout(30):
            while await asyncio.to_thread(server.gauge, "vllm:num_requests_running"):  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.05)


def ends_of(subject: Subject) -> frozenset[int]:
    engine: Any = subject.engine
    ends: frozenset[int] = engine.loaded.eos if subject.kind == BUILTIN else engine._loaded[0].ends
    return ends
