"""The questions of bench/chat.py, and what their answers cost."""

import asyncio
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx
from contenders import Contender, Message
from processes import processor_seconds

__all__ = ["TOPICS", "Sample", "ask", "load", "p95", "question", "ratio"]

TOPICS = ("a dragon", "the sea", "an old clock", "two friends", "a lost key", "the moon", "a river", "winter")


@dataclass(frozen=True)
class Sample:
    """What one load gave.

    Attributes:
        speed: tokens per second over all clients.
        first: seconds to the first text, of each client.
        processor: seconds of processor time per token, of all the contender's processes.
    """

    speed: float
    first: list[float]
    processor: float


def question(index: int, number: int, place: int) -> list[Message]:
    """Return a question nobody was asked before, so that only what all have in common can be reused.

    `place` is the contender's, one digit: two of them may share an engine that remembers prompts.
    """
    topic = TOPICS[index % len(TOPICS)]
    text = f"Write a long and detailed story about {topic} ({number}/{place}), with many scenes, and begin at once."
    return [{"role": "user", "content": text}]


async def ask(
    http: httpx.AsyncClient, one: Contender, messages: Sequence[Message], tokens: int
) -> tuple[str, float, float]:
    """Return the answer, the seconds to its first piece, and the seconds in all."""
    started, first, text = time.perf_counter(), 0.0, ""
    async for piece in one.stream(http, messages, tokens):
        first = first or time.perf_counter() - started
        text += piece
    return text, first, time.perf_counter() - started


async def load(
    http: httpx.AsyncClient, one: Contender, count: Callable[[str], int], asked: Sequence[list[Message]], tokens: int
) -> Sample:
    """Ask all questions at once."""
    used = processor_seconds(one.processes())
    started = time.perf_counter()
    answers = await asyncio.gather(*(ask(http, one, messages, tokens) for messages in asked))
    seconds = time.perf_counter() - started
    used = processor_seconds(one.processes()) - used
    total = sum(count(text) for text, _, _ in answers)
    if not total:
        raise SystemExit(f"{one.name} answered without a word; ask its API by hand, or name another model")
    return Sample(total / seconds, [first for _, first, _ in answers], used / total)


def p95(samples: Sequence[Sample]) -> float:
    """Return the time to the first text that 95 % of all clients stayed below."""
    values = sorted(value for sample in samples for value in sample.first)
    return values[min(len(values) - 1, int(len(values) * 0.95))]


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample], value: Callable[[Sample], float]) -> float:
    """Return the median over rounds of ours / theirs."""
    return statistics.median(_over(value(our), value(their)) for our, their in zip(ours, theirs, strict=True))


def _over(ours: float, theirs: float) -> float:
    return ours / theirs if theirs else math.inf  # processor time is counted in ticks of 10 ms
