"""The scripted engine: what it does with a request is what the built-in engine does, but for the model."""

import asyncio
import math
import time
from collections.abc import Sequence
from functools import partial

from vicuna_contract.templates import BUILT_IN_TEMPLATES, FROM_TOKENIZER, NO_TEMPLATE
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
    TopLogprob,
)
from vicuna_server.engine.answer import Answer
from vicuna_server.engine.grammar.compiling import ConstraintDesk
from vicuna_server.engine.limits import (
    Admission,
    answer_budget,
    check_embeddable,
    check_few_contexts,
    check_has_tokens,
    check_scored,
    no_chats,
)
from vicuna_server.engine.replay import deliver, never_off, replayed
from vicuna_server.engine.scope import EVERYBODY, CacheScope
from vicuna_server.engine.scripted.run import Run, Shared
from vicuna_server.engine.scripted.settings import ScriptedSettings
from vicuna_server.engine.scripted.words import (
    EMBEDDING_SIZE,
    Saying,
    Script,
    ScriptedFormat,
    WordCounts,
    WordIds,
    certain_logprobs,
    chat_script,
    format_of,
    letter_vector,
    script_of,
    spaced,
    word_decoder,
)
from vicuna_server.engine.stats import EngineStats
from vicuna_server.engine.trimming import most_tokens
from vicuna_server.engine.trimming import trim as fitted
from vicuna_server.prompts import get_template
from vicuna_server.tools.chat_format import PLAIN, ChatFormat

__all__ = ["ScriptedEngine"]


class ScriptedEngine:
    """Answers every request with the words of its last message, over and over.

    A token is a word with its space, and certain: its log probability is 0. Everything else (limits, stop strings,
    queue, cancelling, counters) behaves as in the built-in engine.
    """

    why_off = staticmethod(never_off)

    def __init__(self, settings: ScriptedSettings, template: str = FROM_TOKENIZER, max_concurrency: int = 32) -> None:
        self.stats = EngineStats()
        self._settings = settings
        self.fingerprint = f"scripted {settings.tokens} {template} {settings.context_length}"
        self.chats = template != NO_TEMPLATE
        self._template = get_template(template) if template in BUILT_IN_TEMPLATES else None
        self._admission = Admission(max_concurrency)
        self._shared = Shared(self.stats, asyncio.Semaphore(max_concurrency))
        self._tasks: set[asyncio.Task[None]] = set()
        self._constraints = ConstraintDesk(_scripted_format)
        self._words = WordIds()

    @property
    def context_length(self) -> int:
        """The limit in words."""
        return self._settings.context_length

    @property
    def embedding_size(self) -> int:
        """Numbers in a vector."""
        return EMBEDDING_SIZE

    @property
    def chat_format(self) -> ChatFormat:
        """Calls as text, no reasoning."""
        return PLAIN

    @property
    def hung(self) -> bool:
        """Never."""
        return False

    async def load(self) -> None:
        """Take as long as the settings say."""
        await asyncio.sleep(self._settings.load_seconds)

    async def prepare(
        self,
        prompt: PromptInput | PreparedPrompt,
        max_tokens: int | None,
        *,
        trim: bool = False,
        scope: CacheScope = EVERYBODY,
    ) -> PreparedPrompt:
        """Count the words; see `Engine.prepare`."""
        if isinstance(prompt, PreparedPrompt):
            return prompt
        self._admit(scope)
        param = "messages" if isinstance(prompt, ChatPrompt) else "prompt"
        if not (trim and isinstance(prompt, ChatPrompt)):
            script = self._render(prompt)
            return PreparedPrompt(len(script), param, script)
        script, left_out = fitted(prompt, most_tokens(self.context_length, max_tokens), WordCounts(), self._render)
        return PreparedPrompt(len(script), param, script, left_out)

    async def constrain(
        self, constraint: Constraint | PreparedConstraint, scope: CacheScope = EVERYBODY
    ) -> PreparedConstraint:
        """Check a constraint and write an answer that keeps it; see `Engine.constrain`."""
        return await self._constraints.prepare(constraint, scope, partial(self._admit, scope))

    async def submit(self, request: GenerationRequest) -> Generation:
        """Accept a request as the built-in engine does; see `Engine.submit`."""
        ready = await self.prepare(request.prompt, request.max_tokens, scope=request.scope)
        script, prompt_tokens = script_of(ready), ready.tokens
        self._admit(request.scope)
        budget = request.below_ceiling(
            answer_budget(prompt_tokens, request.max_tokens, self.context_length, ready.param)
        )
        words, stops, length = await self._script(request, script)
        deadline = None if request.time_limit is None else time.monotonic() + request.time_limit
        eos = len(words)
        answer = Answer(
            word_decoder(words),
            frozenset({eos}),
            stops,
            budget,
            deadline,
            min_tokens=request.min_tokens,
            include_stop=request.include_stop,
        )
        generation = Generation(prompt_tokens)
        if deliver(replayed(request.generated, eos + 1, answer, generation.submitted), generation):
            return generation
        self._admission.take(request.scope.caller, generation)
        logprobs = None if request.logprobs is None else certain_logprobs(words, request.logprobs)
        pause = 1 / self._settings.tokens_per_second if self._settings.tokens_per_second else 0.0
        task = Run(self._shared, generation, answer, eos, length, logprobs, pause).start()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.sleep(0)  # a task cancelled before its first step would never leave the queue
        return generation

    async def embed(self, prompts: Sequence[str | tuple[int, ...]], scope: CacheScope = EVERYBODY) -> list[Embedding]:
        """Return vectors made of the letters' counts; see `Engine.embed`. Nothing is cached."""
        del scope
        texts = [self._words.text(prompt) for prompt in prompts]
        counts = [len(text.split()) for text in texts]
        for words in counts:
            check_embeddable(words, self.context_length)
        self.stats.prompt_tokens += sum(counts)
        return [Embedding(letter_vector(text), tokens) for text, tokens in zip(texts, counts, strict=True)]

    async def score(
        self, prompts: Sequence[PromptInput | PreparedPrompt], top: int, most: int, scope: CacheScope = EVERYBODY
    ) -> list[list[PromptToken]]:
        """Return the words, each with log probability 0; see `Engine.score`."""
        self._admit(scope)
        scored: list[list[PromptToken]] = []
        for prompt in prompts:
            ready = await self.prepare(prompt, 0, scope=scope)
            ids = await self.tokenize(script_of(ready).text)
            check_has_tokens(len(ids))
            answer_budget(len(ids), 0, self.context_length, ready.param)
            tokens = [TopLogprob(token, f"{self._words.words[token]} ".encode(), 0.0) for token in ids]
            rest = [PromptToken(*each, 1, (each,) if top else ()) for each in tokens[1:]]
            scored.append([PromptToken(tokens[0].token_id, tokens[0].text_bytes), *rest])
        check_scored(sum(map(len, scored)), most)
        return scored

    async def tokenize(self, prompt: ChatPrompt | str, *, add_special_tokens: bool = True) -> list[int]:
        """Return one id per word; there are no special tokens."""
        del add_special_tokens
        text = self._render(prompt).text
        check_few_contexts(
            len(text.split()), self.context_length, "messages" if isinstance(prompt, ChatPrompt) else "prompt"
        )
        return self._words.ids(text)

    async def detokenize(self, ids: Sequence[int]) -> str:
        """Return the words of ids that `tokenize` gave."""
        check_few_contexts(len(ids), self.context_length, "tokens")
        return self._words.text(tuple(ids))

    async def close(self) -> None:
        """End what runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._constraints.close()

    def _admit(self, scope: CacheScope) -> None:
        self._admission.check(self.stats.running, self.stats.waiting + self._constraints.waiting, scope.caller)

    async def _script(self, request: GenerationRequest, script: Script) -> Saying:
        """Return what is said: an answer that the constraint allows, else the words of the last message."""
        if request.constraint is not None:
            ready = await self.constrain(request.constraint, request.scope)
            if (answer := format_of(ready).answer(script.asked_for)) is not None:
                return Saying(answer, (), len(answer))
        length = math.inf if request.ignore_eos else max(self._settings.tokens, request.min_tokens)
        return Saying(spaced(script.last), (*script.stops, *request.stop), length)

    def _render(self, prompt: PromptInput) -> Script:
        if not isinstance(prompt, ChatPrompt):
            text = self._words.text(prompt)
            return Script(text, text, ())
        if not self.chats:
            raise no_chats()
        return chat_script(prompt, self._template)


def _scripted_format(constraint: Constraint, text: str) -> ScriptedFormat:
    from vicuna_server.engine.scripted.grammar import scripted_format  # the grammar library, where it is wanted

    return scripted_format(constraint, text)
