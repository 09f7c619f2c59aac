"""The real engine: encodes requests and hands them to the one thread that owns the model."""

import asyncio
import time
from collections.abc import Callable
from collections.abc import Sequence as Several
from dataclasses import replace
from functools import partial

from vicuna_server.engine.answer import Answer
from vicuna_server.engine.base import (
    ChatPrompt,
    Embedding,
    Generation,
    GenerationRequest,
    PreparedPrompt,
    PromptInput,
)
from vicuna_server.engine.encoding import EncodedPrompt
from vicuna_server.engine.encoding_thread import HUNG_SECONDS, EncodingThread
from vicuna_server.engine.limits import (
    Admission,
    answer_budget,
    check_embeddable,
    check_few_contexts,
    check_logit_bias,
)
from vicuna_server.engine.loading import LoadedModel, load_model
from vicuna_server.engine.prefix import Row
from vicuna_server.engine.sampling import Sampler
from vicuna_server.engine.sequence import Answering, Embedded, Sequence
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.engine.stats import EngineStats
from vicuna_server.engine.trimming import most_tokens
from vicuna_server.engine.trimming import trim as fitted
from vicuna_server.engine.worker import Worker
from vicuna_server.errors import EngineError, RequestError

__all__ = ["TransformersEngine"]

EMBEDDED_AT_ONCE = 8
"""Texts of one request in the batch, so that a thousand texts leave room for others."""


class TransformersEngine:
    """Runs a causal language model of transformers; requests join and leave between two tokens.

    Args:
        settings: What to load.
        loader: Loads the model, on the engine's thread; tests bring their own.
        hung_seconds: How long encoding a prompt may take before the engine is taken for hung.
    """

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
    def chats(self) -> bool:
        """Whether conversations are answered."""
        return self.loaded.encoder.chats

    @property
    def hung(self) -> bool:
        """Whether a prompt's encoding does not come to its end."""
        return self._encoding.hung

    async def load(self) -> None:
        """Start the engine's thread, which loads the model; see `Engine.load`."""
        settings = self._settings
        self._worker = Worker(
            partial(self._loader, settings), self.stats, settings.max_concurrency, reuse=settings.prefix_reuse
        )
        self._loaded = await self._worker.loaded()

    async def prepare(
        self, prompt: PromptInput | PreparedPrompt, max_tokens: int | None, *, trim: bool = False
    ) -> PreparedPrompt:
        """Encode a prompt, in the thread for that; see `Engine.prepare`."""
        if isinstance(prompt, PreparedPrompt):
            return prompt
        since = time.monotonic()
        self._check_admission()
        param = "messages" if isinstance(prompt, ChatPrompt) else "prompt"
        work = partial(_encode, self.loaded, prompt, max_tokens, param, trim=trim)
        encoded, left_out = await self._encoding.run(work)
        if not encoded.ids:
            raise RequestError("prompt: there is no token in it", param="prompt")
        return PreparedPrompt(len(encoded), param, encoded, left_out, since)

    async def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request, encoded where that is still to be done; see `Engine.submit`."""
        loaded = self.loaded
        ready = await self.prepare(request.prompt, request.max_tokens)
        encoded, started = _own_copy(ready), ready.since
        budget = answer_budget(ready.tokens, request.max_tokens, loaded.context_length, ready.param)
        check_logit_bias(request.logit_bias, loaded.encoder.vocabulary.size)
        answer = Answer(
            lambda ids: loaded.encoder.decode(list(ids)),
            loaded.eos,
            (*encoded.stop, *request.stop),
            budget,
            None if request.time_limit is None else started + request.time_limit,
        )
        generation = Generation(ready.tokens, submitted=started)
        sampler = Sampler(request, encoded.ids)
        sequence = Sequence(Row(encoded.ids), Answering(sampler, answer, generation, budget))
        worker = self._running_worker
        generation.on_cancel = lambda: worker.cancel([sequence])
        self._check_admission()  # others may have come while this one was encoded
        worker.enqueue([sequence])
        return generation

    async def embed(self, prompts: Several[str | tuple[int, ...]]) -> list[Embedding]:
        """Queue the texts; see `Engine.embed`."""
        loaded, loop = self.loaded, asyncio.get_running_loop()
        self._check_admission()
        for prompt in prompts:
            check_embeddable(max(1, loaded.encoder.least_tokens(prompt)), loaded.context_length)
        encoded = []
        for prompt in prompts:
            encoded.append(await self._encoding.run(partial(loaded.encoder.encode, prompt, param="input")))
            check_embeddable(len(encoded[-1]), loaded.context_length)
        vectors: list[Embedding] = []
        for index in range(0, len(encoded), EMBEDDED_AT_ONCE):
            group = encoded[index : index + EMBEDDED_AT_ONCE]
            results: list[asyncio.Future[Embedding]] = [loop.create_future() for _ in group]
            pairs = zip(group, results, strict=True)
            sequences = [Sequence(Row(one.ids), Embedded(result)) for one, result in pairs]
            self._running_worker.enqueue(sequences)
            try:
                vectors += await asyncio.gather(*results)
            finally:
                self._running_worker.cancel(sequences)  # those that are through do not mind
        return vectors

    async def tokenize(self, prompt: ChatPrompt | str, *, add_special_tokens: bool = True) -> list[int]:
        """Return token ids; see `Engine.tokenize`."""
        self._admission.check(0, self._encoding.waiting)
        loaded, param = self.loaded, "messages" if isinstance(prompt, ChatPrompt) else "prompt"
        check = partial(check_few_contexts, context_length=loaded.context_length, param=param)
        encode = partial(loaded.encoder.encode, prompt, add_special_tokens=add_special_tokens, check=check)
        return (await self._encoding.run(encode)).ids

    async def detokenize(self, ids: Several[int]) -> str:
        """Return the text; see `Engine.detokenize`."""
        self._admission.check(0, self._encoding.waiting)
        loaded = self.loaded
        check_few_contexts(len(ids), loaded.context_length, "tokens")
        return await self._encoding.run(partial(loaded.encoder.detokenize, ids))

    async def close(self) -> None:
        """Stop the thread after its current step."""
        self._encoding.close()
        if self._worker is not None:
            await self._worker.close()
        if self._loaded is not None:
            self._loaded.encoder.close()

    def _check_admission(self) -> None:
        waiting = self.stats.waiting + self._running_worker.arriving + self._encoding.waiting
        self._admission.check(self.stats.running, waiting)

    @property
    def _running_worker(self) -> Worker:
        if self._worker is None:
            raise EngineError("NotLoaded", "the model is not loaded yet")
        return self._worker


def _encode(
    loaded: LoadedModel, prompt: PromptInput, max_tokens: int | None, param: str, *, trim: bool
) -> tuple[EncodedPrompt, int]:
    """Return the prompt's tokens, and how many messages were left out; all checks that it takes come first."""
    context = loaded.context_length

    def check(least: int) -> None:
        answer_budget(least, max_tokens, context, param, estimated=True)

    def encode(one: PromptInput) -> EncodedPrompt:
        return loaded.encoder.encode(one, check=check)

    if trim and isinstance(prompt, ChatPrompt):
        return fitted(prompt, most_tokens(context, max_tokens), loaded.encoder, encode)
    return encode(prompt), 0


def _own_copy(ready: PreparedPrompt) -> EncodedPrompt:
    """Return what `prepare` has made, with ids to which an answer's can be added."""
    encoded = ready.content
    if not isinstance(encoded, EncodedPrompt):
        raise TypeError("the prompt was prepared by another engine")
    return replace(encoded, ids=list(encoded.ids))
