"""The real engine: one thread owns the model and steps all running requests together."""

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Several
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import torch

from vicuna_server.engine.answer import Answer
from vicuna_server.engine.base import (
    ChatPrompt,
    Delta,
    Embedding,
    EngineStats,
    Generation,
    GenerationRequest,
    TokenLogprob,
    TopLogprob,
)
from vicuna_server.engine.batch import Batch, Result
from vicuna_server.engine.encoding import PromptEncoder
from vicuna_server.engine.limits import Admission, answer_budget, check_embeddable, check_logit_bias
from vicuna_server.engine.loading import LoadedModel, load_model
from vicuna_server.engine.machine import usable_cpus
from vicuna_server.engine.prefix import Row
from vicuna_server.engine.sampling import Choice, Sampler
from vicuna_server.engine.sequence import Answering, Embedded, Sequence
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.errors import EngineError, RequestError, VicunaError

__all__ = ["TransformersEngine"]

logger = logging.getLogger(__name__)

JOIN_SECONDS = 5.0
EMBEDDED_AT_ONCE = 8
"""Texts of one request in the batch, so that a thousand texts leave room for others."""


class TransformersEngine:
    """Runs a causal language model of transformers; requests join and leave between two tokens.

    Args:
        settings: What to load.
        loader: Loads the model, on the engine's thread; tests bring their own.
    """

    def __init__(
        self,
        settings: LoadSettings,
        loader: Callable[[LoadSettings], LoadedModel] = load_model,
    ) -> None:
        self.stats = EngineStats()
        self._settings = settings
        self._loader = loader
        self._admission = Admission(settings.max_concurrency)
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._arrived: deque[Sequence] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._loaded: LoadedModel | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outbox: list[tuple[Generation, Delta | VicunaError]] = []

    @property
    def loaded(self) -> LoadedModel:
        """The model, once `load` has returned."""
        if self._loaded is None:
            raise EngineError("NotLoaded", "the model is not loaded yet")
        return self._loaded

    @property
    def context_length(self) -> int:
        """The limit in tokens."""
        return self.loaded.context_length

    async def load(self) -> None:
        """Start the engine's thread, which loads the model; see `Engine.load`."""
        self._loop = asyncio.get_running_loop()
        outcome: asyncio.Future[LoadedModel] = self._loop.create_future()
        # A daemon: a load that takes minutes must not keep a stopped process alive.
        self._thread = threading.Thread(target=self._main, args=(outcome,), name="engine", daemon=True)
        self._thread.start()
        self._loaded = await outcome

    async def submit(self, request: GenerationRequest) -> Generation:
        """Encode and queue a request; see `Engine.submit`."""
        loaded = self.loaded
        started = time.monotonic()
        self._check_admission()
        param = "messages" if isinstance(request.prompt, ChatPrompt) else "prompt"
        least = loaded.encoder.least_tokens(request.prompt)
        answer_budget(least, request.max_tokens, loaded.context_length, param, estimated=True)
        loop = asyncio.get_running_loop()
        encoded = await loop.run_in_executor(self._encoding, loaded.encoder.encode, request.prompt)
        if not encoded.ids:
            raise RequestError("prompt: there is no token in it", param="prompt")
        budget = answer_budget(len(encoded.ids), request.max_tokens, loaded.context_length, param)
        check_logit_bias(request.logit_bias, loaded.encoder.vocabulary.size)
        answer = Answer(
            lambda ids: loaded.encoder.decode(list(ids)),
            loaded.eos,
            (*encoded.stop, *request.stop),
            budget,
            None if request.time_limit is None else started + request.time_limit,
        )
        generation = Generation(len(encoded.ids), submitted=started)
        sampler = Sampler(request, encoded.ids)
        sequence = Sequence(Row(encoded.ids), Answering(sampler, answer, generation, budget))
        generation.on_cancel = lambda: self._cancel([sequence])
        self._check_admission()  # others may have come while this one was encoded
        self._enqueue([sequence])
        return generation

    async def embed(self, prompts: Several[str | tuple[int, ...]]) -> list[Embedding]:
        """Queue the texts; see `Engine.embed`."""
        loaded, loop = self.loaded, asyncio.get_running_loop()
        self._check_admission()
        for prompt in prompts:
            check_embeddable(max(1, loaded.encoder.least_tokens(prompt)), loaded.context_length)
        encoded = [await loop.run_in_executor(self._encoding, loaded.encoder.encode, prompt) for prompt in prompts]
        for one in encoded:
            check_embeddable(len(one.ids), loaded.context_length)
        vectors: list[Embedding] = []
        for index in range(0, len(encoded), EMBEDDED_AT_ONCE):
            group = encoded[index : index + EMBEDDED_AT_ONCE]
            results: list[asyncio.Future[Embedding]] = [loop.create_future() for _ in group]
            pairs = zip(group, results, strict=True)
            sequences = [Sequence(Row(one.ids), Embedded(result)) for one, result in pairs]
            self._enqueue(sequences)
            try:
                vectors += await asyncio.gather(*results)
            finally:
                self._cancel(sequences)  # those that are through do not mind
        return vectors

    async def tokenize(self, prompt: ChatPrompt | str, *, add_special_tokens: bool = True) -> list[int]:
        """Return token ids; see `Engine.tokenize`."""
        encode = partial(self.loaded.encoder.encode, prompt, add_special_tokens=add_special_tokens)
        return (await asyncio.get_running_loop().run_in_executor(self._encoding, encode)).ids

    async def detokenize(self, ids: Several[int]) -> str:
        """Return the text; see `Engine.detokenize`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._encoding, self.loaded.encoder.detokenize, ids)

    async def close(self) -> None:
        """Stop the thread after its current step."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._encoding.shutdown(wait=False, cancel_futures=True)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, JOIN_SECONDS)

    def _check_admission(self) -> None:
        self._admission.check(self.stats.running, self.stats.waiting + len(self._arrived))

    def _enqueue(self, sequences: list[Sequence]) -> None:
        with self._wake:
            if self._stopping:
                raise EngineError("EngineStopped", "the server is stopping")
            self._arrived.extend(sequences)
            self._wake.notify()

    def _cancel(self, sequences: list[Sequence]) -> None:
        with self._wake:
            for sequence in sequences:
                sequence.cancelled = True
            self._wake.notify()

    # From here on: the engine's thread.

    def _main(self, outcome: asyncio.Future[LoadedModel]) -> None:
        try:
            if "OMP_NUM_THREADS" not in os.environ:
                torch.set_num_threads(usable_cpus())
            loaded = self._loader(self._settings)
        except VicunaError as error:
            self._call(_resolve, outcome, error)
            return
        except Exception as error:
            logger.exception("loading failed")
            self._call(_resolve, outcome, EngineError("LoadFailed", f"the model cannot be loaded: {error}"))
            return
        self._call(_resolve, outcome, loaded)
        batch = Batch(
            loaded.decoder, loaded.kv_tokens, self._admission.max_running, self.stats, reuse=self._settings.prefix_reuse
        )
        with torch.inference_mode():
            while self._wait_for_work(batch):
                self._turn(batch, loaded.encoder)
                self._send()
        stopped = EngineError("EngineStopped", "the server stopped before the answer was complete")
        for sequence in (*batch.sequences(), *self._arrived):
            self._fail(sequence, stopped)
        self._send()

    def _wait_for_work(self, batch: Batch) -> bool:
        """Sleep until there is something to do, and take in what has arrived; False: stop."""
        with self._wake:
            while not (self._stopping or self._arrived or len(batch)):
                self._wake.wait()
            batch.waiting.extend(self._arrived)
            self._arrived.clear()
            self.stats.waiting = len(batch.waiting)
            return not self._stopping

    def _turn(self, batch: Batch, encoder: PromptEncoder) -> None:
        for sequence in batch.sequences():
            if sequence.cancelled:
                batch.leave(sequence, keep=True)
                self.stats.cancelled += 1
        if not len(batch):
            return
        try:
            outcomes = batch.turn()
        except Exception as error:
            # A mistake of ours outside the forward pass: it must end neither the thread nor later requests.
            logger.exception("a turn of the batch failed")
            failure = EngineError("GenerationFailed", f"the server failed while generating: {error}")
            outcomes = [(sequence, failure) for sequence in batch.sequences()]
        now = time.monotonic()
        for sequence, outcome in outcomes:
            self._settle(batch, encoder, sequence, outcome, now)

    def _settle(self, batch: Batch, encoder: PromptEncoder, sequence: Sequence, outcome: Result, now: float) -> None:
        purpose = sequence.purpose
        if isinstance(outcome, EngineError):
            batch.leave(sequence, keep=False)
            self._fail(sequence, outcome)
            self.stats.failed += 1
        elif isinstance(purpose, Embedded):
            batch.leave(sequence, keep=True)
            self.stats.finished += 1
            self._call(_resolve, purpose.result, purpose.embedding(sequence.prompt_tokens))
        elif isinstance(outcome, Choice):
            self.stats.generated_tokens += 1
            delta = purpose.answer.push(outcome.token, now, _logprob(outcome, encoder))
            self._outbox.append((purpose.generation, delta))
            if delta.finish_reason is not None:
                batch.leave(sequence, keep=True)
                self.stats.finished += 1

    def _fail(self, sequence: Sequence, failure: EngineError) -> None:
        if isinstance(sequence.purpose, Embedded):
            self._call(_resolve, sequence.purpose.result, failure)
        else:
            self._outbox.append((sequence.purpose.generation, failure))

    def _send(self) -> None:
        """Hand what this turn produced to the event loop, in one call."""
        if self._outbox:
            self._call(_deliver, self._outbox)
            self._outbox = []

    def _call(self, function: Callable[..., None], *args: object) -> None:
        # The loop may be closed already when the process is ending.
        with suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *args)


def _deliver(outbox: list[tuple[Generation, Delta | VicunaError]]) -> None:
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
