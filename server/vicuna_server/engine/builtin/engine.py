"""The built-in engine: encodes requests and hands them to the one thread that owns the model."""

import asyncio
from collections.abc import Callable
from collections.abc import Sequence as Several
from functools import partial
from typing import TypeVar

from vicuna_server.constraints import Constraint
from vicuna_server.engine import (
    ChatPrompt,
    Embedding,
    Generation,
    GenerationRequest,
    PreparedConstraint,
    PreparedPrompt,
    PromptInput,
    PromptToken,
)
from vicuna_server.engine.builtin.grammars import Grammars
from vicuna_server.engine.builtin.loading import LoadedModel, load_model
from vicuna_server.engine.builtin.prefix import SequenceTokens
from vicuna_server.engine.builtin.requests import generating_sequence, recalled
from vicuna_server.engine.builtin.scoring import Score, with_text
from vicuna_server.engine.builtin.sequence import Embedded, Scored, Sequence
from vicuna_server.engine.builtin.worker import Worker
from vicuna_server.engine.encoding_thread import HUNG_SECONDS, EncodingThread
from vicuna_server.engine.limits import Admission, answer_budget, check_embeddable, check_scored
from vicuna_server.engine.prompt_desk import PromptDesk, own_copy
from vicuna_server.engine.replay import deliver, never_off
from vicuna_server.engine.scope import EVERYBODY, CacheScope
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.engine.stats import EngineStats
from vicuna_server.errors import EngineError
from vicuna_server.tools.chat_format import ChatFormat

__all__ = ["BuiltinEngine"]

PROMPTS_AT_ONCE = 8
"""Texts of one request in the batch at once, so that a thousand texts leave room for other requests."""

Result = TypeVar("Result")


class BuiltinEngine:
    """Runs a causal language model of transformers; requests join and finish between two steps.

    Args:
        settings: What to load.
        loader: Loads the model, on the engine's thread.
        hung_seconds: How long encoding a prompt may take before the engine counts as hung.
    """

    why_off = staticmethod(never_off)

    def __init__(
        self,
        settings: LoadSettings,
        loader: Callable[[LoadSettings], LoadedModel] = load_model,
        hung_seconds: float = HUNG_SECONDS,
    ) -> None:
        self.stats = EngineStats()
        self._settings = settings
        self._loader = loader
        self._admission = Admission(settings.max_concurrency)
        self._encoding = EncodingThread(hung_seconds)
        self._loaded: LoadedModel | None = None
        self._worker: Worker | None = None
        self._followed: Grammars | None = None

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

    @property
    def chat_format(self) -> ChatFormat:
        """How calls of tools and reasoning are written."""
        return self.loaded.encoder.chat_format

    @property
    def hung(self) -> bool:
        """Whether a prompt's encoding takes too long."""
        return self._encoding.hung

    @property
    def fingerprint(self) -> str:
        """What decides about its tokens."""
        loaded, kind = self.loaded, self._settings.quantization
        return f"builtin {loaded.placement.dtype} {kind} {loaded.encoder.template_digest} {loaded.context_length}"

    async def load(self) -> None:
        """Start the engine's thread, which loads the model; see `Engine.load`."""
        settings = self._settings
        self._worker = Worker(partial(self._loader, settings), self.stats, settings)
        self._loaded = await self._worker.loaded()
        self._followed = Grammars(self._loaded.encoder)

    async def prepare(
        self,
        prompt: PromptInput | PreparedPrompt,
        max_tokens: int | None,
        *,
        trim: bool = False,
        scope: CacheScope = EVERYBODY,
    ) -> PreparedPrompt:
        """Encode a prompt, in the thread for that; see `Engine.prepare`."""
        return await self._desk.prepare(prompt, max_tokens, partial(self._admit, scope), trim=trim)

    async def constrain(
        self, constraint: Constraint | PreparedConstraint, scope: CacheScope = EVERYBODY
    ) -> PreparedConstraint:
        """Compile a constraint's grammar; see `Engine.constrain`."""
        return await self._grammars.prepare(constraint, scope, partial(self._admit, scope))

    async def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request, encoded where that is still to be done; see `Engine.submit`."""
        loaded = self.loaded
        ready = await self.prepare(request.prompt, request.max_tokens, scope=request.scope)
        words: list[list[int]] = []
        if request.bad_words:
            words = await self._encoding.run(partial(loaded.encoder.spellings, request.bad_words))
        follow = None
        if request.constraint is not None:
            follow = self._grammars.follow(await self.constrain(request.constraint, request.scope))
        sequence, generation = generating_sequence(loaded, request, ready, words, follow)
        if known := request.generated:
            replay = partial(recalled, sequence, known, loaded.encoder.vocabulary.size)
            if deliver(await self._encoding.run(replay), generation):
                return generation
        worker = self._running_worker
        generation.on_cancel = lambda: worker.cancel([sequence])
        self._admit(request.scope)  # the queue may have filled while this one was encoded
        worker.enqueue([sequence])
        self._admission.take(request.scope.caller, generation)
        return generation

    async def embed(self, prompts: Several[str | tuple[int, ...]], scope: CacheScope = EVERYBODY) -> list[Embedding]:
        """Queue the texts; see `Engine.embed`."""
        loaded = self.loaded
        self._admit(scope)
        for prompt in prompts:
            check_embeddable(max(1, loaded.encoder.least_tokens(prompt)), loaded.context_length)
        encoded = []
        for prompt in prompts:
            encoded.append(await self._encoding.run(partial(loaded.encoder.encode, prompt, param="input")))
            check_embeddable(len(encoded[-1]), loaded.context_length)
        return await self._through([one.ids for one in encoded], Embedded, scope)

    async def score(
        self, prompts: Several[PromptInput | PreparedPrompt], top: int, most: int, scope: CacheScope = EVERYBODY
    ) -> list[list[PromptToken]]:
        """Queue the prompts; see `Engine.score`."""
        loaded = self.loaded
        encoded: list[list[int]] = []
        for prompt in prompts:
            ready = await self.prepare(prompt, 0, scope=scope)
            answer_budget(ready.tokens, 0, loaded.context_length, ready.param)
            encoded.append(own_copy(ready).ids)
        self._admit(scope)
        check_scored(sum(map(len, encoded)), most)
        scored: list[list[Score]] = await self._through(encoded, lambda result: Scored(result, top), scope)
        vocabulary = loaded.encoder.vocabulary
        return [
            await self._encoding.run(partial(with_text, vocabulary, ids, scores))
            for ids, scores in zip(encoded, scored, strict=True)
        ]

    async def _through(
        self,
        prompts: Several[list[int]],
        purpose: Callable[[asyncio.Future[Result]], Embedded | Scored],
        scope: CacheScope,
    ) -> list[Result]:
        """Run prompts without generating, some at once, and return the result of each."""
        results: list[Result] = []
        loop = asyncio.get_running_loop()
        for index in range(0, len(prompts), PROMPTS_AT_ONCE):
            group = prompts[index : index + PROMPTS_AT_ONCE]
            coming: list[asyncio.Future[Result]] = [loop.create_future() for _ in group]
            sequences = [
                Sequence(SequenceTokens(ids, scope=scope), purpose(result))
                for ids, result in zip(group, coming, strict=True)
            ]
            self._running_worker.enqueue(sequences)
            try:
                results += await asyncio.gather(*coming)
            finally:
                self._running_worker.cancel(sequences)  # harmless for those that have finished
        return results

    async def tokenize(self, prompt: ChatPrompt | str, *, add_special_tokens: bool = True) -> list[int]:
        """Return token ids; see `Engine.tokenize`."""
        self._admission.check(0, self._encoding.waiting)
        return await self._desk.tokenize(prompt, add_special_tokens=add_special_tokens)

    async def detokenize(self, ids: Several[int]) -> str:
        """Return the text; see `Engine.detokenize`."""
        self._admission.check(0, self._encoding.waiting)
        return await self._desk.detokenize(ids)

    async def close(self) -> None:
        """Stop the thread after its current step."""
        self._encoding.close()
        if self._worker is not None:
            await self._worker.close()
        if self._loaded is not None:
            self._loaded.encoder.close()
        if self._followed is not None:
            self._followed.close()

    def _admit(self, scope: CacheScope) -> None:
        waiting = self.stats.waiting + self._running_worker.arriving + self._encoding.waiting + self._grammars.waiting
        self._admission.check(self.stats.running, waiting, scope.caller)

    @property
    def _grammars(self) -> Grammars:
        if self._followed is None:
            raise EngineError("NotLoaded", "the model is not loaded yet")
        return self._followed

    @property
    def _desk(self) -> PromptDesk:
        return PromptDesk(self.loaded.encoder, self.loaded.context_length, self._encoding)

    @property
    def _running_worker(self) -> Worker:
        if self._worker is None:
            raise EngineError("NotLoaded", "the model is not loaded yet")
        return self._worker
