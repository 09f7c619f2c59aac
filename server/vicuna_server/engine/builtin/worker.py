"""The thread that owns a model: it loads it, runs the steps, and reports to the event loop."""

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Several
from contextlib import suppress
from typing import Any

import torch

from vicuna_server.engine import Generation, OutputChunk, TokenLogprob, TopLogprob
from vicuna_server.engine.builtin.loading import LoadedModel
from vicuna_server.engine.builtin.sampling import Choice
from vicuna_server.engine.builtin.scheduler import Result, Scheduler
from vicuna_server.engine.builtin.sequence import Embedded, Scored, Sequence
from vicuna_server.engine.encoding import PromptEncoder
from vicuna_server.engine.settings import SchedulerSettings
from vicuna_server.engine.stats import EngineStats
from vicuna_server.errors import EngineError, RequestError, VicunaError
from vicuna_server.machine import usable_cpus

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

JOIN_SECONDS = 5.0


class Worker:
    """Public methods are for the event loop's thread, which is the one that made it; the others run in its own.

    Args:
        load: Loads the model, in the worker's thread.
        stats: Counters to keep.
        settings: The scheduler's.
    """

    def __init__(self, load: Callable[[], LoadedModel], stats: EngineStats, settings: SchedulerSettings) -> None:
        self._load = load
        self._stats = stats
        self._settings = settings
        self._arrived: deque[Sequence] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._outbox: list[tuple[Generation, OutputChunk | VicunaError]] = []
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[LoadedModel] = self._loop.create_future()
        # A daemon: a load that takes minutes must not keep a stopped process alive.
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)
        self._thread.start()

    async def loaded(self) -> LoadedModel:
        """Return the model once it is loaded.

        Raises:
            VicunaError: It cannot be loaded.
        """
        return await self._loaded

    @property
    def arriving(self) -> int:
        """Sequences that the thread has not taken in yet."""
        return len(self._arrived)

    def enqueue(self, sequences: Several[Sequence]) -> None:
        """Hand over sequences to run.

        Raises:
            EngineError: `EngineStopped`.
        """
        with self._wake:
            if self._stopping:
                raise EngineError(
                    "EngineStopped", "the server is stopping; send the request to another one, or again in a moment"
                )
            self._arrived.extend(sequences)
            self._wake.notify()

    def cancel(self, sequences: Several[Sequence]) -> None:
        """Have sequences finished before the next step."""
        with self._wake:
            for sequence in sequences:
                sequence.cancelled = True
            self._wake.notify()

    async def close(self) -> None:
        """Stop after the current step."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join, JOIN_SECONDS)

    def _main(self) -> None:
        try:
            if "OMP_NUM_THREADS" not in os.environ:
                torch.set_num_threads(usable_cpus())
            loaded = self._load()
        except VicunaError as error:
            self._call(_resolve, self._loaded, error)
            return
        except Exception as error:
            logger.exception("loading failed")
            self._call(_resolve, self._loaded, EngineError("LoadFailed", f"the model cannot be loaded: {error}"))
            return
        self._call(_resolve, self._loaded, loaded)
        scheduler = Scheduler(loaded.decoder, loaded.kv_tokens, self._stats, self._settings)
        with torch.inference_mode():
            while self._wait_for_work(scheduler):
                self._step(scheduler, loaded.encoder)
                self._send()
        stopped = EngineError(
            "EngineStopped", "the server stopped before the response was complete; send the request again"
        )
        for sequence in (*scheduler.sequences(), *self._arrived):
            self._fail(sequence, stopped)
        self._send()

    def _wait_for_work(self, scheduler: Scheduler) -> bool:
        """Wait until there are sequences, and take in those that have arrived; False: stop."""
        with self._wake:
            while not (self._stopping or self._arrived or len(scheduler)):
                self._wake.wait()
            scheduler.waiting.extend(self._arrived)
            self._arrived.clear()
            self._stats.waiting = len(scheduler.waiting)
            return not self._stopping

    def _step(self, scheduler: Scheduler, encoder: PromptEncoder) -> None:
        for sequence in scheduler.sequences():
            if sequence.cancelled:
                scheduler.finish(sequence, keep=True)
                self._fail(
                    sequence, RequestError("the client left before the response was complete", code="client_left")
                )
                self._stats.cancelled += 1
        if not len(scheduler):
            return
        try:
            outcomes = scheduler.step()
        except Exception as error:
            # A defect of this server outside the forward pass: the thread and later requests must go on.
            logger.exception("a step of the scheduler failed")
            failure = EngineError("GenerationFailed", f"the server failed while generating: {error}")
            outcomes = [(sequence, failure) for sequence in scheduler.sequences()]
        now = time.monotonic()
        for sequence, outcome in outcomes:
            try:
                self._settle(scheduler, encoder, sequence, outcome, now)
            except Exception as error:
                # As above: where one completion cannot be decoded, the others must go on.
                logger.exception("a completion could not be decoded")
                failure = EngineError("GenerationFailed", f"the server failed while generating: {error}")
                self._settle(scheduler, encoder, sequence, failure, now)

    def _settle(
        self, scheduler: Scheduler, encoder: PromptEncoder, sequence: Sequence, outcome: Result, now: float
    ) -> None:
        purpose = sequence.purpose
        if isinstance(outcome, EngineError):
            scheduler.finish(sequence, keep=False)
            self._fail(sequence, outcome)
            self._stats.failed += 1
        elif isinstance(purpose, Embedded | Scored):
            result = purpose.outcome(sequence.prompt_tokens)
            scheduler.finish(sequence, keep=True)
            self._stats.finished += 1
            self._call(_resolve, purpose.result, result)
        elif isinstance(outcome, Choice):
            chunk = purpose.answer.push(outcome.token, now, _logprob(outcome, encoder), last=outcome.last)
            self._stats.generated_tokens += 1  # one that could not be decoded is not counted
            self._outbox.append((purpose.generation, chunk))
            if chunk.finish_reason is not None:
                scheduler.finish(sequence, keep=True)
                self._stats.finished += 1

    def _fail(self, sequence: Sequence, failure: VicunaError) -> None:
        if isinstance(sequence.purpose, Embedded | Scored):
            self._call(_resolve, sequence.purpose.result, failure)
        else:
            self._outbox.append((sequence.purpose.generation, failure))

    def _send(self) -> None:
        """Hand what this step produced to the event loop, in one call."""
        if self._outbox:
            self._call(_deliver, self._outbox)
            self._outbox = []

    def _call(self, function: Callable[..., None], *args: object) -> None:
        # The loop may be closed already when the process is ending.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)


def _deliver(outbox: list[tuple[Generation, OutputChunk | VicunaError]]) -> None:
    for generation, event in outbox:
        generation.push(event)


def _resolve(outcome: asyncio.Future[Any], result: object) -> None:
    if outcome.done():
        return
    if isinstance(result, VicunaError):
        outcome.set_exception(result)
    else:
        outcome.set_result(result)


def _logprob(choice: Choice, encoder: PromptEncoder) -> TokenLogprob | None:
    if choice.logprob is None:
        return None
    text = encoder.vocabulary.token_bytes
    top = tuple(TopLogprob(token, text(token), logprob) for token, logprob in choice.top)
    return TokenLogprob(choice.token, text(choice.token), choice.logprob, top)
