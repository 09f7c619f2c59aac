"""One answer on its way: it waits for its turn, then comes word by word."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from vicuna_server.engine import EngineStats, Generation, TokenLogprob
from vicuna_server.engine.answer import Answer
from vicuna_server.errors import EngineError

__all__ = ["Run", "Shared"]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all runs of one engine have in common.

    Attributes:
        stats: Counters to keep.
        slots: Taken by each run that generates.
    """

    stats: EngineStats
    slots: asyncio.Semaphore


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One answer.

    Attributes:
        shared: The engine's.
        generation: Gets the chunks, and at last a finish reason or an error.
        answer: Makes text of tokens.
        eos: The token that ends it; those below are its words, which come over and over.
        length: So many words come before the end.
        logprobs: Of the words; None: not asked for.
        pause: Seconds between two tokens.
    """

    shared: Shared
    generation: Generation
    answer: Answer
    eos: int
    length: float
    logprobs: Sequence[TokenLogprob] | None
    pause: float

    def start(self) -> "asyncio.Task[None]":
        """Begin: from now on the request is in the queue."""
        self.shared.stats.waiting += 1
        task = asyncio.create_task(self._main())
        self.generation.on_cancel = task.cancel
        return task

    async def _main(self) -> None:
        stats, running = self.shared.stats, False
        try:
            async with self.shared.slots:
                stats.waiting -= 1
                stats.running += 1
                running = True
                stats.prompt_tokens += self.generation.prompt_tokens
                self.generation.begun = True
                await self._generate()
        except asyncio.CancelledError:
            stats.cancelled += 1
            self.generation.push(
                EngineError(
                    "EngineStopped", "the server stopped before the response was complete; send the request again"
                )
            )
        finally:
            if running:
                stats.running -= 1
            else:
                stats.waiting -= 1

    async def _generate(self) -> None:
        first = self.generation.tokens
        start = time.monotonic() - first * self.pause
        for index in count(first):
            # Paced by the clock, so that a late wake-up does not slow the rest of the stream.
            await asyncio.sleep(max(0.0, start + (index + 1) * self.pause - time.monotonic()))
            self.shared.stats.generated_tokens += 1
            token = index % self.eos if index < self.length else self.eos
            logprob = self.logprobs[token] if self.logprobs is not None and token != self.eos else None
            chunk = self.answer.push(token, time.monotonic(), logprob)
            self.generation.push(chunk)
            if chunk.finish_reason is not None:
                self.shared.stats.finished += 1
                return
