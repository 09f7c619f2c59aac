"""The real engine: encodes requests and hands them to the one thread that owns the model."""

import asyncio
import time
from collections.abc import Callable
from collections.abc import Sequence as Several
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from vicuna_server.engine.answer import Answer
from vicuna_server.engine.base import (
    ChatPrompt,
    Embedding,
    Generation,
    GenerationRequest,
    PromptInput,
    PromptToken,
)
from vicuna_server.engine.forbidding import Forbidden
from vicuna_server.engine.limits import Admission, answer_budget, check_embeddable, check_scored, check_tokens
from vicuna_server.engine.loading import LoadedModel, load_model
from vicuna_server.engine.prefix import Row
from vicuna_server.engine.sampling import Sampler
from vicuna_server.engine.scope import EVERYBODY, CacheScope
from vicuna_server.engine.scoring import Score, told
from vicuna_server.engine.sequence import Answering, Embedded, Scored, Sequence
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.engine.stats import EngineStats
from vicuna_server.engine.worker import Worker
from vicuna_server.errors import EngineError, RequestError

__all__ = ["TransformersEngine"]

PROMPTS_AT_ONCE = 8
"""Texts of one request in the batch, so that a thousand texts leave room for others."""

Result = TypeVar("Result")


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
        self._loaded: LoadedModel | None = None
        self._worker: Worker | None = None

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

    @property
    def embedding_size(self) -> int:
        """Numbers in a vector."""
        return self.loaded.width

    @property
    def chats(self) -> bool:
        """Whether conversations are answered."""
        return self.loaded.encoder.chats

    async def load(self) -> None:
        """Start the engine's thread, which loads the model; see `Engine.load`."""
        settings = self._settings
        self._worker = Worker(
            partial(self._loader, settings), self.stats, settings.max_concurrency, reuse=settings.prefix_reuse
        )
        self._loaded = await self._worker.loaded()

    async def submit(self, request: GenerationRequest) -> Generation:
        """Encode and queue a request; see `Engine.submit`."""
        loaded = self.loaded
        started = time.monotonic()
        self._check_admission()
        param = "messages" if isinstance(request.prompt, ChatPrompt) else "prompt"
        least = loaded.encoder.least_tokens(request.prompt)
        answer_budget(least, None, loaded.context_length, param, estimated=True)
        loop = asyncio.get_running_loop()
        encoded = await loop.run_in_executor(self._encoding, loaded.encoder.encode, request.prompt)
        if not encoded.ids:
            raise RequestError("prompt: there is no token in it", param="prompt")
        budget = request.below_ceiling(
            answer_budget(len(encoded.ids), request.max_tokens, loaded.context_length, param)
        )
        ends = frozenset(request.stop_token_ids) | (frozenset() if request.ignore_eos else loaded.eos)
        check_tokens(request, loaded.encoder.vocabulary.size, budget, ends)
        words: list[list[int]] = []
        if request.bad_words:
            words = await loop.run_in_executor(self._encoding, loaded.encoder.spellings, request.bad_words)
        answer = Answer(
            lambda ids: loaded.encoder.decode(list(ids), skip_special_tokens=request.skip_special_tokens),
            ends,
            (*encoded.stop, *request.stop),
            budget,
            None if request.time_limit is None else started + request.time_limit,
            min_tokens=request.min_tokens,
            include_stop=request.include_stop,
        )
        generation = Generation(len(encoded.ids), submitted=started)
        rows = range(loaded.encoder.vocabulary.size)  # a tokenizer may have tokens that the model has not
        known = [word for word in words if max(word, default=0) in rows]
        early = [token for token in ends if token in rows]
        forbidden = Forbidden(request.allowed_token_ids, known, early, request.min_tokens)
        sampler = Sampler(request, encoded.ids, forbidden)
        sequence = Sequence(Row(encoded.ids, scope=request.scope), Answering(sampler, answer, generation, budget))
        worker = self._running_worker
        generation.on_cancel = lambda: worker.cancel([sequence])
        self._check_admission()  # others may have come while this one was encoded
        worker.enqueue([sequence])
        return generation

    async def embed(self, prompts: Several[str | tuple[int, ...]], scope: CacheScope = EVERYBODY) -> list[Embedding]:
        """Queue the texts; see `Engine.embed`."""
        loaded, loop = self.loaded, asyncio.get_running_loop()
        self._check_admission()
        for prompt in prompts:
            check_embeddable(max(1, loaded.encoder.least_tokens(prompt)), loaded.context_length)
        encode = partial(loaded.encoder.encode, param="input")
        encoded = [await loop.run_in_executor(self._encoding, encode, prompt) for prompt in prompts]
        for one in encoded:
            check_embeddable(len(one.ids), loaded.context_length)
        return await self._through([one.ids for one in encoded], Embedded, scope)

    async def score(
        self, prompts: Several[PromptInput], top: int, most: int, scope: CacheScope = EVERYBODY
    ) -> list[list[PromptToken]]:
        """Queue the prompts; see `Engine.score`."""
        loaded, loop = self.loaded, asyncio.get_running_loop()
        self._check_admission()
        encoded: list[list[int]] = []
        for prompt in prompts:
            param = "messages" if isinstance(prompt, ChatPrompt) else "prompt"
            answer_budget(loaded.encoder.least_tokens(prompt), 0, loaded.context_length, param, estimated=True)
            encoded.append((await loop.run_in_executor(self._encoding, loaded.encoder.encode, prompt)).ids)
            if not encoded[-1]:
                raise RequestError("prompt: there is no token in it", param="prompt")
            answer_budget(len(encoded[-1]), 0, loaded.context_length, param)
        check_scored(sum(map(len, encoded)), most)
        scored: list[list[Score]] = await self._through(encoded, lambda result: Scored(result, top), scope)
        vocabulary = loaded.encoder.vocabulary
        return [
            await loop.run_in_executor(self._encoding, told, vocabulary, ids, scores)
            for ids, scores in zip(encoded, scored, strict=True)
        ]

    async def _through(
        self,
        prompts: Several[list[int]],
        purpose: Callable[[asyncio.Future[Result]], Embedded | Scored],
        scope: CacheScope,
    ) -> list[Result]:
        """Run prompts that nothing is generated behind, some at once, and return what is made of each."""
        results: list[Result] = []
        loop = asyncio.get_running_loop()
        for index in range(0, len(prompts), PROMPTS_AT_ONCE):
            group = prompts[index : index + PROMPTS_AT_ONCE]
            coming: list[asyncio.Future[Result]] = [loop.create_future() for _ in group]
            sequences = [
                Sequence(Row(ids, scope=scope), purpose(result)) for ids, result in zip(group, coming, strict=True)
            ]
            self._running_worker.enqueue(sequences)
            try:
                results += await asyncio.gather(*coming)
            finally:
                self._running_worker.cancel(sequences)  # those that are through do not mind
        return results

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
        self._encoding.shutdown(wait=False, cancel_futures=True)
        if self._worker is not None:
            await self._worker.close()

    def _check_admission(self) -> None:
        self._admission.check(self.stats.running, self.stats.waiting + self._running_worker.arriving)

    @property
    def _running_worker(self) -> Worker:
        if self._worker is None:
            raise EngineError("NotLoaded", "the model is not loaded yet")
        return self._worker
