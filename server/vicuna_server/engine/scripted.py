"""A deterministic engine without a model: it echoes, at a chosen speed. For load and rollout tests."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Self

from vicuna_server.engine.answer import Answer
from vicuna_server.engine.base import ChatPrompt, EngineStats, Generation, GenerationRequest
from vicuna_server.engine.limits import Admission, answer_budget
from vicuna_server.errors import EngineError, UsageError
from vicuna_server.prompts import FROM_TOKENIZER, Conversation, get_template

__all__ = ["ScriptedEngine", "ScriptedSettings"]


@dataclass(frozen=True)
class ScriptedSettings:
    """How the scripted engine behaves.

    Attributes:
        tokens: Length of an answer, before `max_tokens` or a stop string ends it.
        tokens_per_second: Speed of each stream; 0: as fast as it goes.
        load_seconds: How long loading pretends to take.
        context_length: Limit of prompt and answer together, in words.
    """

    tokens: int = 16
    tokens_per_second: float = 0.0
    load_seconds: float = 0.0
    context_length: int = 4096

    @classmethod
    def from_env(cls, env: Mapping[str, str], context_length: int | None = None) -> Self:
        """Read `VICUNA_SCRIPTED_TOKENS`, `…_TOKENS_PER_SECOND` and `…_LOAD_SECONDS`.

        Raises:
            UsageError: A value is not a number or is negative.
        """
        return cls(
            tokens=int(_number(env, "VICUNA_SCRIPTED_TOKENS", cls.tokens)),
            tokens_per_second=_number(env, "VICUNA_SCRIPTED_TOKENS_PER_SECOND", cls.tokens_per_second),
            load_seconds=_number(env, "VICUNA_SCRIPTED_LOAD_SECONDS", cls.load_seconds),
            context_length=context_length or cls.context_length,
        )


class ScriptedEngine:
    """Answers every request with the words of its last message, over and over.

    A token is a word with its space. Everything else (limits, stop strings, waiting line, cancelling, counters)
    behaves as in the real engine.
    """

    def __init__(self, settings: ScriptedSettings, template: str = FROM_TOKENIZER, max_concurrency: int = 32) -> None:
        self.stats = EngineStats()
        self._settings = settings
        self._template = None if template == FROM_TOKENIZER else get_template(template)
        self._admission = Admission(max_concurrency)
        self._slots = asyncio.Semaphore(max_concurrency)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def context_length(self) -> int:
        """The limit in words."""
        return self._settings.context_length

    async def load(self) -> None:
        """Take as long as the settings say."""
        await asyncio.sleep(self._settings.load_seconds)

    async def submit(self, request: GenerationRequest) -> Generation:
        """Accept a request as the real engine does; see `Engine.submit`."""
        self._admission.check(self.stats.running, self.stats.waiting)
        text, last, stops = self._render(request)
        prompt_tokens = len(text.split())
        param = "messages" if isinstance(request.prompt, ChatPrompt) else "prompt"
        budget = answer_budget(prompt_tokens, request.max_tokens, self.context_length, param)
        words = last.split() or ["nothing"]
        deadline = None if request.time_limit is None else time.monotonic() + request.time_limit
        eos = len(words)
        answer = Answer(_decoder(words), frozenset({eos}), (*stops, *request.stop), budget, deadline)
        generation = Generation(prompt_tokens)
        self.stats.waiting += 1
        task = asyncio.create_task(self._run(generation, answer, eos))
        generation.on_cancel = task.cancel
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return generation

    async def close(self) -> None:
        """End what runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _render(self, request: GenerationRequest) -> tuple[str, str, tuple[str, ...]]:
        if isinstance(request.prompt, str):
            return request.prompt, request.prompt, ()
        conversation = Conversation.of(request.prompt.messages)
        last = conversation.turns[-1].content
        if self._template is None:
            return "\n".join(message.content for message in conversation.messages()), last, ()
        prompt = self._template.render(conversation)
        return prompt.text(), last, prompt.stop

    async def _run(self, generation: Generation, answer: Answer, eos: int) -> None:
        running = False
        try:
            async with self._slots:
                self.stats.waiting -= 1
                self.stats.running += 1
                running = True
                self.stats.prompt_tokens += generation.prompt_tokens
                await self._generate(generation, answer, eos)
        except asyncio.CancelledError:
            self.stats.cancelled += 1
            generation.push(EngineError("EngineStopped", "the server stopped before the answer was complete"))
        finally:
            if running:
                self.stats.running -= 1
            else:
                self.stats.waiting -= 1

    async def _generate(self, generation: Generation, answer: Answer, eos: int) -> None:
        pause = 1 / self._settings.tokens_per_second if self._settings.tokens_per_second else 0.0
        start = time.monotonic()
        for index in count():
            # Paced against the clock, so that a late wake-up does not slow the stream for good.
            await asyncio.sleep(max(0.0, start + (index + 1) * pause - time.monotonic()))
            self.stats.generated_tokens += 1
            token = index % eos if index < self._settings.tokens else eos
            delta = answer.push(token, time.monotonic())
            generation.push(delta)
            if delta.finish_reason is not None:
                self.stats.finished += 1
                return


def _decoder(words: Sequence[str]) -> Callable[[Sequence[int]], str]:
    def decode(ids: Sequence[int]) -> str:
        return "".join(f"{words[token]} " for token in ids)

    return decode


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    raw = env.get(name)
    if raw is None or raw == "":
        return default
    try:
        value = float(raw)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"{name} must be a number that is not negative, got {raw!r}")
    return value
