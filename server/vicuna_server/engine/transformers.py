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
from vicuna_server.engine.base import ChatPrompt, Delta, Embedding, EngineStats, Generation, GenerationRequest
from vicuna_server.engine.batch import Batch, Outcome, Sequence
from vicuna_server.engine.limits import Admission, answer_budget, check_embeddable
from vicuna_server.engine.loading import LoadedModel, LoadSettings, load_model
from vicuna_server.engine.placement import usable_cpus
from vicuna_server.engine.sampling import Sampler
from vicuna_server.errors import EngineError, RequestError, VicunaError

__all__ = ["TransformersEngine"]

logger = logging.getLogger(__name__)

JOIN_SECONDS = 5.0


class TransformersEngine:
    """Runs a causal language model of transformers; requests join and leave between two tokens.

    Args:
        settings: What to load.
        max_concurrency: Sequences generated at once.
        loader: Loads the model, on the engine's thread; tests bring their own.
    """

    def __init__(
        self,
        settings: LoadSettings,
        max_concurrency: int = 32,
        loader: Callable[[LoadSettings], LoadedModel] = load_model,
    ) -> None:
        self.stats = EngineStats()
        self._settings = settings
        self._loader = loader
        self._admission = Admission(max_concurrency)
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._waiting: deque[Sequence] = deque()
        self._to_embed: deque[tuple[list[int], asyncio.Future[Embedding]]] = deque()
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
        self._admission.check(self.stats.running, len(self._waiting))
        loop = asyncio.get_running_loop()
        encoded = await loop.run_in_executor(self._encoding, loaded.encoder.encode, request.prompt)
        if not encoded.ids:
            raise RequestError("prompt: there is no token in it", param="prompt")
        param = "messages" if isinstance(request.prompt, ChatPrompt) else "prompt"
        budget = answer_budget(len(encoded.ids), request.max_tokens, loaded.context_length, param)
        answer = Answer(
            lambda ids: loaded.encoder.decode(list(ids)),
            loaded.eos,
            (*encoded.stop, *request.stop),
            budget,
            None if request.time_limit is None else started + request.time_limit,
        )
        generation = Generation(len(encoded.ids))
        sequence = Sequence(encoded.ids, Sampler(request), answer, generation)
        generation.on_cancel = lambda: self._cancel(sequence)
        with self._wake:
            self._admission.check(self.stats.running, len(self._waiting))
            if self._stopping:
                raise EngineError("EngineStopped", "the server is stopping")
            self._waiting.append(sequence)
            self.stats.waiting = len(self._waiting)
            self._wake.notify()
        return generation

    async def embed(self, prompts: Several[str | tuple[int, ...]]) -> list[Embedding]:
        """Queue texts for the engine's thread, which takes them one at a time; see `Engine.embed`."""
        loaded, loop = self.loaded, asyncio.get_running_loop()
        self._admission.check(self.stats.running, len(self._waiting) + len(self._to_embed))
        encoded = [await loop.run_in_executor(self._encoding, loaded.encoder.encode, prompt) for prompt in prompts]
        for one in encoded:
            check_embeddable(len(one.ids), loaded.context_length)
        jobs = [(one.ids, loop.create_future()) for one in encoded]
        with self._wake:
            if self._stopping:
                raise EngineError("EngineStopped", "the server is stopping")
            self._to_embed.extend(jobs)
            self._wake.notify()
        return list(await asyncio.gather(*(future for _, future in jobs)))

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

    def _cancel(self, sequence: Sequence) -> None:
        with self._wake:
            sequence.cancelled = True
            if sequence in self._waiting:
                self._waiting.remove(sequence)
                self.stats.waiting = len(self._waiting)
                self.stats.cancelled += 1
            self._wake.notify()

    # From here on: the engine's thread.

    def _main(self, outcome: asyncio.Future[LoadedModel]) -> None:
        try:
            if "OMP_NUM_THREADS" not in os.environ:
                torch.set_num_threads(usable_cpus())
            loaded = self._loader(self._settings)
        except VicunaError as error:
            self._call(_settle, outcome, error)
            return
        except Exception as error:
            logger.exception("loading failed")
            self._call(_settle, outcome, EngineError("LoadFailed", f"the model cannot be loaded: {error}"))
            return
        self._call(_settle, outcome, loaded)
        batch = Batch(loaded.model, loaded.placement.device, loaded.context_length)
        with torch.inference_mode():
            while self._wait_for_work(batch):
                self._turn(batch)
                self._embed_next(loaded)
                self._send()
        stopped = EngineError("EngineStopped", "the server stopped before the answer was complete")
        for sequence in (*batch.abandon(), *self._waiting):
            self._outbox.append((sequence.generation, stopped))
        for _, future in self._to_embed:
            self._call(_settle, future, stopped)
        self._send()

    def _wait_for_work(self, batch: Batch) -> bool:
        """Sleep until there is something to do, and let the next waiting request join; False: stop."""
        with self._wake:
            while not (self._stopping or self._waiting or self._to_embed or len(batch)):
                self._wake.wait()
            if batch.joining is None and self._waiting and len(batch) < self._admission.max_running:
                sequence = self._waiting.popleft()
                batch.join(sequence)
                self.stats.prompt_tokens += len(sequence.ids)
            self.stats.waiting, self.stats.running = len(self._waiting), len(batch)
            return not self._stopping

    def _turn(self, batch: Batch) -> None:
        try:
            for sequence in batch.sequences():
                if sequence.cancelled:
                    batch.leave(sequence)
                    self.stats.cancelled += 1
            if batch.rows:
                self._settle_all(batch, batch.step())
            first = batch.prefill()
            if first is not None:
                self._settle_all(batch, [first])
        except Exception as error:
            # One failed pass must end neither the thread nor later requests.
            logger.exception("a forward pass failed")
            failure = EngineError("GenerationFailed", f"the model failed while generating: {error}")
            for sequence in batch.abandon():
                self._fail(sequence, failure)
        self.stats.running = len(batch)

    def _embed_next(self, loaded: LoadedModel) -> None:
        if not self._to_embed:
            return
        ids, future = self._to_embed.popleft()
        try:
            hidden = loaded.model.base_model(
                input_ids=torch.tensor([ids], device=loaded.placement.device), use_cache=False
            ).last_hidden_state
            vector = torch.nn.functional.normalize(hidden[0].float().mean(dim=0), dim=0)
            self._call(_settle, future, Embedding(vector.tolist(), len(ids)))
        except Exception as error:
            logger.exception("an embedding failed")
            self._call(_settle, future, EngineError("EmbeddingFailed", f"the model failed while embedding: {error}"))

    def _settle_all(self, batch: Batch, outcomes: list[Outcome]) -> None:
        now = time.monotonic()
        for sequence, token in outcomes:
            if isinstance(token, EngineError):
                batch.leave(sequence, wipe=True)
                self._fail(sequence, token)
                continue
            sequence.last = token
            self.stats.generated_tokens += 1
            delta = sequence.answer.push(token, now)
            self._outbox.append((sequence.generation, delta))
            if delta.finish_reason is not None:
                batch.leave(sequence)
                self.stats.finished += 1

    def _fail(self, sequence: Sequence, failure: EngineError) -> None:
        self.stats.failed += 1
        self._outbox.append((sequence.generation, failure))

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


def _settle(outcome: asyncio.Future[Any], result: object) -> None:
    if outcome.done():
        return
    if isinstance(result, VicunaError):
        outcome.set_exception(result)
    else:
        outcome.set_result(result)
