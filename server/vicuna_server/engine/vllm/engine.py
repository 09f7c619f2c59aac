"""The engine in front of a vLLM server: prompts, limits, text and ends are ours, tokens come from there."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

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
from vicuna_server.engine.contents import WeightCheck
from vicuna_server.engine.encoding_thread import EncodingThread
from vicuna_server.engine.grammar.compiling import ConstraintDesk
from vicuna_server.engine.limits import Admission, answer_budget, check_scored
from vicuna_server.engine.prompt_desk import PromptDesk, open_request, own_copy
from vicuna_server.engine.replay import deliver, replayed
from vicuna_server.engine.scope import EVERYBODY, CacheScope
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.engine.stats import EngineStats
from vicuna_server.engine.vllm.completion import check_supported, generation_body, scoring_body, why_off
from vicuna_server.engine.vllm.counters import cache_of, own_lines
from vicuna_server.engine.vllm.in_flight import InFlight, both
from vicuna_server.engine.vllm.prompts import ModelPrompts, load_prompts
from vicuna_server.engine.vllm.request_queue import RequestQueue
from vicuna_server.engine.vllm.run import Run, Shared
from vicuna_server.engine.vllm.scoring import prompt_tokens
from vicuna_server.engine.vllm.server import VllmServer
from vicuna_server.engine.vllm.settings import VllmSettings
from vicuna_server.errors import EngineError, RequestError
from vicuna_server.tools.chat_format import ChatFormat

__all__ = ["VllmEngine"]


class _Loaded(NamedTuple):
    """What there is once the folder is read and vLLM is there."""

    prompts: ModelPrompts
    desk: PromptDesk
    shared: Shared
    constraints: ConstraintDesk[str]


class VllmEngine:
    """Answers with a vLLM server that somebody else starts, and may start anew.

    Args:
        settings: What is served, and how many at once.
        vllm: Where the server is.
        check: Of the folder's weights, which vLLM reads; None: none.
    """

    why_off = staticmethod(why_off)

    def __init__(self, settings: LoadSettings, vllm: VllmSettings, check: WeightCheck | None = None) -> None:
        self.stats = EngineStats()
        self.fingerprint = ""
        self._settings = settings
        self._check = check
        self._admission = Admission(settings.max_concurrency)
        self._encoding = EncodingThread()
        self._server = VllmServer(vllm, settings.context_length, self._hangs)
        self._queue = RequestQueue(settings.max_concurrency, self.stats, self._server.progress)
        self._in_flight = InFlight()
        self._watching: asyncio.Task[None] | None = None
        self._loaded: _Loaded | None = None

    @property
    def context_length(self) -> int:
        """The limit in tokens: what is asked for, else what vLLM has room for."""
        return self._server.context_length

    @property
    def embedding_size(self) -> int:
        """There are no vectors."""
        return 0

    @property
    def chats(self) -> bool:
        """Whether conversations are answered."""
        return self._model.prompts.encoder.chats

    @property
    def chat_format(self) -> ChatFormat:
        """How calls of tools and reasoning are written."""
        return self._model.prompts.encoder.chat_format

    @property
    def hung(self) -> bool:
        """Whether a prompt's encoding does not come to its end; what vLLM does is told by `away`."""
        return self._encoding.hung

    @property
    def away(self) -> str:
        """See `SeparateEngine.away`."""
        return self._server.watch.state

    async def exposition(self) -> bytes:
        """See `SeparateEngine.exposition`."""
        text = await self._server.client.metrics()
        if cache := cache_of(text):
            self.stats.kv_tokens, self.stats.kv_capacity = cache
        return own_lines(text)

    async def load(self) -> None:
        """Read the folder's small files and wait for vLLM, however long that takes; see `Engine.load`."""
        prompts = await asyncio.to_thread(load_prompts, self._settings)
        self._server.probe = (await self._encoding.run(partial(prompts.encoder.encode, "Hello"))).ids
        await both(self._checked(), self._server.watch.started())
        self._watching = asyncio.create_task(self._server.watch.run())
        desk = PromptDesk(prompts.encoder, self.context_length, self._encoding)
        text = prompts.encoder.vocabulary.token_bytes
        shared = Shared(self._server.client, self.stats, self._queue, self._server.progress, text)
        self.fingerprint = f"{await self._server.identity()} {prompts.encoder.template_digest} {self.context_length}"
        constraints = ConstraintDesk(lambda _, text: text, prompts.encoder.special_id)
        self._loaded = _Loaded(prompts, desk, shared, constraints)

    async def prepare(
        self,
        prompt: PromptInput | PreparedPrompt,
        max_tokens: int | None,
        *,
        trim: bool = False,
        scope: CacheScope = EVERYBODY,
    ) -> PreparedPrompt:
        """Encode a prompt, in the thread for that; see `Engine.prepare`."""
        return await self._model.desk.prepare(prompt, max_tokens, partial(self._admit, scope), trim=trim)

    async def constrain(
        self, constraint: Constraint | PreparedConstraint, scope: CacheScope = EVERYBODY
    ) -> PreparedConstraint:
        """Make the grammar that vLLM is sent; see `Engine.constrain`."""
        return await self._model.constraints.prepare(constraint, scope, partial(self._admit, scope))

    async def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request; see `Engine.submit`."""
        check_supported(request)
        prompts, shared = self._model.prompts, self._model.shared
        ready = await self.prepare(request.prompt, request.max_tokens, scope=request.scope)
        grammar = None
        if request.constraint is not None:
            grammar = str((await self.constrain(request.constraint, request.scope)).content)
        opened = open_request(request, ready, prompts.encoder, prompts.ends, self.context_length)
        if known := request.generated:
            replay = partial(replayed, known, prompts.encoder.vocabulary.size, opened.answer, ready.since)
            if deliver(await self._encoding.run(replay), opened.generation):
                return opened.generation
        self._admit(request.scope)  # others may have come while this one was encoded
        body = generation_body(request, opened.ids, opened.ends, opened.budget, self._server.served.name, grammar)
        run = Run(shared, opened.generation, opened.answer, body, request.scope)
        task = run.start()
        self._admission.take(request.scope.caller, opened.generation)
        self._in_flight.add(task, partial(run.stop, task))
        return opened.generation

    async def embed(self, prompts: Sequence[str | tuple[int, ...]], scope: CacheScope = EVERYBODY) -> list[Embedding]:
        """Refuse: a vLLM server that generates gives no vectors."""
        del prompts, scope
        raise RequestError(
            "this model is served by the vllm engine, which gives no embeddings beside answers; serve a second model "
            "with the same weights and spec.serving.engine: builtin, and ask that one",
            code="unsupported_by_engine",
        )

    async def score(
        self, prompts: Sequence[PromptInput | PreparedPrompt], top: int, most: int, scope: CacheScope = EVERYBODY
    ) -> list[list[PromptToken]]:
        """Ask for the prompts' likelihoods, one after the other; see `Engine.score`."""
        encoded: list[list[int]] = []
        for prompt in prompts:
            ready = await self.prepare(prompt, 0, scope=scope)
            answer_budget(ready.tokens, 1, self.context_length, ready.param)  # vLLM generates a token in any case
            encoded.append(own_copy(ready).ids)
        check_scored(sum(map(len, encoded)), most)
        self._admit(scope)
        return [await self._in_flight.result(self._scored(ids, top, scope)) for ids in encoded]

    async def tokenize(self, prompt: ChatPrompt | str, *, add_special_tokens: bool = True) -> list[int]:
        """Return token ids; see `Engine.tokenize`."""
        self._admission.check(0, self._encoding.waiting)
        return await self._model.desk.tokenize(prompt, add_special_tokens=add_special_tokens)

    async def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text; see `Engine.detokenize`."""
        self._admission.check(0, self._encoding.waiting)
        return await self._model.desk.detokenize(ids)

    async def close(self) -> None:
        """End what runs; vLLM itself is somebody else's."""
        self._encoding.close()
        if self._check is not None:
            self._check.end()
        stopped = EngineError("EngineStopped", "the server stopped before the answer was complete")
        tasks = self._in_flight.stop_all(stopped)
        if self._watching is not None:
            self._watching.cancel()
            tasks.append(self._watching)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.client.close()
        if self._loaded is not None:
            self._loaded.prompts.encoder.close()
            self._loaded.constraints.close()

    @property
    def _model(self) -> _Loaded:
        if self._loaded is None:
            raise EngineError("NotLoaded", "the model is not loaded yet")
        return self._loaded

    async def _checked(self) -> None:
        if self._check is not None:
            await asyncio.to_thread(self._check.finish)

    def _admit(self, scope: CacheScope) -> None:
        self._server.check()
        self._admission.check(self.stats.running, self.stats.waiting + self._encoding.waiting, scope.caller)

    async def _scored(self, ids: list[int], top: int, scope: CacheScope) -> list[PromptToken]:
        entry, prompts = self._queue.enter(scope), self._model.prompts
        try:
            await entry.begin()
            self.stats.prompt_tokens += len(ids)
            answer = await self._server.client.whole(scoring_body(ids, top, scope, self._server.served.name))
            self._server.progress.move()
            self.stats.finished += 1
        finally:
            entry.release()
        return await self._encoding.run(
            partial(prompt_tokens, answer, ids, top, prompts.encoder.vocabulary.token_bytes)
        )

    def _hangs(self) -> None:
        self._in_flight.stop_all(EngineError("EngineHung", "the vllm engine hangs; send the request again"))
