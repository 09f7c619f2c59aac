"""One answer on its way: it waits in the queue, asks vLLM, and hands on what comes, until one of its many ends."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vicuna_server.engine import Generation, OutputChunk, TokenLogprob, TopLogprob
from vicuna_server.engine.answer import Answer
from vicuna_server.engine.scope import CacheScope
from vicuna_server.engine.stats import EngineStats
from vicuna_server.engine.vllm.client import VllmClient
from vicuna_server.engine.vllm.events import Event, Likelihood
from vicuna_server.engine.vllm.failures import failure, unavailable
from vicuna_server.engine.vllm.progress import Progress
from vicuna_server.engine.vllm.request_queue import QueueEntry, RequestQueue
from vicuna_server.errors import EngineError, RequestError, VicunaError

__all__ = ["Run", "Shared"]

logger = logging.getLogger(__name__)

_STOPPED = EngineError("EngineStopped", "the server stopped before the answer was complete")


@dataclass(frozen=True, slots=True)
class Shared:
    """What all runs of one engine have in common.

    Attributes:
        client: The way to vLLM.
        stats: Counters to keep.
        queue: Of all requests.
        progress: Told of whatever comes.
        text: A token's bytes.
    """

    client: VllmClient
    stats: EngineStats
    queue: RequestQueue
    progress: Progress
    text: Callable[[int], bytes]


@dataclass(slots=True, eq=False)
class Run:
    """One answer.

    Attributes:
        shared: The engine's.
        generation: Gets the chunks, and at last a finish reason or an error.
        answer: Makes text of tokens.
        body: What vLLM is asked.
        scope: Whose request it is, and how soon it is wanted.
    """

    shared: Shared
    generation: Generation
    answer: Answer
    body: Mapping[str, object]
    scope: CacheScope
    _entry: QueueEntry = field(init=False)
    _why: VicunaError | None = field(default=None, init=False)
    _last: OutputChunk | None = field(default=None, init=False)
    _ended_there: bool = field(default=False, init=False)

    def start(self) -> "asyncio.Task[None]":
        """Begin: from now on the request is in the queue."""
        self._entry = self.shared.queue.enter(self.scope)
        task = asyncio.create_task(self._main())
        task.add_done_callback(self._leave)  # which runs also where the task is cancelled before its first step
        left = RequestError("the client left before the response was complete", code="client_left")
        self.generation.on_cancel = lambda: self.stop(task, left)
        return task

    def stop(self, task: "asyncio.Task[None]", why: VicunaError) -> None:
        """End the run; the generation then ends with this error."""
        self._why = self._why or why
        task.cancel()

    def _leave(self, task: "asyncio.Task[None]") -> None:
        self._entry.release()
        if task.cancelled():
            self.shared.stats.cancelled += 1
            self.generation.push(self._end_of(self._why or _STOPPED))

    async def _main(self) -> None:
        stats = self.shared.stats
        try:
            try:
                async with asyncio.timeout_at(self.answer.deadline):
                    await self._entry.begin()
                    await self._ask()
            except TimeoutError:
                self._last = self._last or self.answer.end(time.monotonic(), "length")
            ending = self._ending()
            stats.finished += 1
            self.generation.push(ending)
        except VicunaError as error:
            stats.failed += 1
            self.generation.push(self._end_of(error))
        except Exception as error:
            # A mistake of ours: what one answer's text does to a tokenizer is nobody else's matter.
            logger.exception("an answer could not be told")
            stats.failed += 1
            self.generation.push(EngineError("GenerationFailed", f"the server failed while generating: {error}"))

    def _end_of(self, error: VicunaError) -> VicunaError:
        """Return what the generation ends with: before the first token another server can still do it."""
        if isinstance(error, EngineError) and not self.generation.tokens:
            return unavailable(f"failed: {error.message}")
        return error

    async def _ask(self) -> None:
        """Take in what vLLM sends until the answer is over; the connection is closed then."""
        await self.shared.client.stream(self.body, self._begin, self._on_event)

    def _begin(self) -> None:
        self.generation.begun = True
        self.shared.stats.prompt_tokens += self.generation.prompt_tokens

    def _on_event(self, event: Event) -> bool:
        """Take in an event; return whether the answer is over."""
        self.shared.progress.move()
        self._take(event)
        # vLLM tells last what its cache has spared. Where a stop string ends the answer here, it does not come.
        return self._last is not None and (not self._ended_there or event.cached_tokens is not None)

    def _take(self, event: Event) -> None:
        if event.error is not None:
            raise failure(event.error, begun=self.generation.tokens > 0)
        if event.cached_tokens is not None:
            self.generation.cached_tokens = event.cached_tokens
            self.shared.stats.prefix_hit_tokens += event.cached_tokens
        for index, token in enumerate(event.tokens):
            if self._last is not None:
                return
            self._push(token, event.likelihoods[index] if event.likelihoods else None)
        if event.finish_reason is not None:
            self._ended_there = True
            self._last = self._last or self._cut(event.finish_reason)

    def _push(self, token: int, likelihood: Likelihood | None) -> None:
        chunk = self.answer.push(token, time.monotonic(), self._told(token, likelihood))
        self.shared.stats.generated_tokens += 1
        if chunk.finish_reason is None:
            self.generation.push(chunk)
        else:
            self._last = chunk

    def _cut(self, reason: str) -> OutputChunk:
        """Return the end of an answer that vLLM ended before it was over by our count."""
        if reason not in ("stop", "length"):
            raise EngineError("GenerationFailed", f"the vllm engine broke an answer off ({reason}); send it again")
        return self.answer.end(time.monotonic(), reason)

    def _ending(self) -> OutputChunk:
        if self._last is None:
            raise EngineError(
                "EngineLost", "the vllm engine ended a stream before the answer was complete; send it again"
            )
        return self._last

    def _told(self, token: int, likelihood: Likelihood | None) -> TokenLogprob | None:
        if likelihood is None:
            return None
        text = self.shared.text
        wanted = self.body["logprobs"]
        top = likelihood.top[: wanted if isinstance(wanted, int) else 0]
        alternatives = tuple(TopLogprob(one, text(one), logprob) for one, logprob in top)
        return TokenLogprob(token, text(token), likelihood.logprob, alternatives)
