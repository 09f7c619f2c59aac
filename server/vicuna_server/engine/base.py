"""What an engine is: it takes a request and gives a stream of text that can be cancelled at any moment.

Nothing here knows torch, so that the HTTP side and the scripted engine run without it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, Self

from vicuna_server.engine.scope import EVERYBODY, CacheScope
from vicuna_server.engine.stats import EngineStats
from vicuna_server.errors import VicunaError
from vicuna_server.prompts import Message

__all__ = [
    "MAX_LOGPROBS",
    "ChatPrompt",
    "Embedding",
    "Engine",
    "Generation",
    "GenerationRequest",
    "OutputChunk",
    "PreparedPrompt",
    "PromptInput",
    "PromptToken",
    "TokenLogprob",
    "TopLogprob",
]

MAX_LOGPROBS = 20
"""The most alternatives per token that a request may ask for, as at OpenAI."""


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation that the engine renders with the model's chat template; an assistant message last is continued."""

    messages: tuple[Message, ...]


PromptInput = ChatPrompt | str | tuple[int, ...]
"""A conversation, plain text that is taken as it is, or token ids that are taken as they are."""


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A prompt that an engine has encoded, for as many answers to it as are wanted.

    Attributes:
        tokens: How many it has, BOS included.
        param: Field of the request that it stands in, for messages about it.
        content: What the engine has made of it; nobody else's business.
        left_out: Messages that were left out since it was too long.
        since: When it was handed over, on the `time.monotonic` clock.
    """

    tokens: int
    param: str
    content: object
    left_out: int = 0
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation. Fields mean what OpenAI's fields of that name mean; the rest what transformers' do.

    Attributes:
        prompt: What is to be answered or continued.
        max_tokens: The most tokens to generate; None: up to the end of the context.
        temperature: 0 takes the likeliest token; above, logits are divided by it before sampling.
        top_p: Sample only among the likeliest tokens whose probabilities add up to this.
        top_k: Sample only among so many likeliest tokens; 0: all.
        min_p: Sample only tokens at least this likely, relative to the likeliest; 0: all.
        typical_p: Sample only the most typical tokens whose probabilities add up to this; 1: all.
        repetition_penalty: Logits of tokens in the prompt or answer are divided by it where positive, else multiplied.
        presence_penalty: Taken off the logits of tokens in the answer so far, once.
        frequency_penalty: Taken off the logits of tokens in the answer so far, for each time.
        logit_bias: Pairs of token id and what is added to its logit.
        logprobs: Report each token's log probability and those of so many likeliest (0 to 20); None: report nothing.
        stop: Strings that end the answer; part of it only where `include_stop` says so.
        include_stop: The string or token that ended the answer is part of its text.
        stop_token_ids: Tokens that end the answer like the model's own ends.
        ignore_eos: The model's own ends end nothing.
        min_tokens: So many tokens come before any end.
        allowed_token_ids: The only tokens that may come; None: all.
        bad_words: Words that do not come, as the tokenizer writes them, with and without a space before.
        skip_special_tokens: Whether special tokens are left out of the text.
        seed: Makes the draws of a request repeatable; None draws anew each time.
        time_limit: Seconds after which the answer ends with `finish_reason` "length"; None: no limit.
        scope: Whose keys and values it may go on from, and who from its own.
        ceiling: The most tokens to generate in any case; None: no further limit.
    """

    prompt: PromptInput | PreparedPrompt
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    stop: tuple[str, ...] = ()
    include_stop: bool = False
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    skip_special_tokens: bool = True
    seed: int | None = None
    time_limit: float | None = None
    scope: CacheScope = EVERYBODY
    ceiling: int | None = None

    def below_ceiling(self, budget: int) -> int:
        """Return the smaller of the two."""
        return budget if self.ceiling is None else min(budget, self.ceiling)


class TopLogprob(NamedTuple):
    """A token that could have come, its bytes, and its natural log probability."""

    token_id: int
    text_bytes: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of the answer with its likelihood under the model's raw logits, before temperature and penalties.

    Attributes:
        token_id: The token.
        text_bytes: Its bytes, perhaps a part of a character; none for special tokens.
        logprob: Its natural log probability.
        top: The likeliest tokens at this place, likeliest first, as many as were asked for.
    """

    token_id: int
    text_bytes: bytes
    logprob: float
    top: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptToken:
    """A token of a prompt with its likelihood behind those before it, under the model's raw logits.

    Attributes:
        token_id: The token.
        text_bytes: Its bytes, perhaps a part of a character; none for special tokens.
        logprob: Its natural log probability; None for the first, behind nothing.
        rank: Its place among all tokens, 1 for the likeliest; None for the first.
        top: The likeliest tokens at this place, likeliest first, as many as were asked for.
    """

    token_id: int
    text_bytes: bytes
    logprob: float | None = None
    rank: int | None = None
    top: tuple[TopLogprob, ...] = ()

    def among(self, count: int) -> Self:
        """Return it with so many of the likeliest at most."""
        return replace(self, top=self.top[:count])


class Embedding(NamedTuple):
    """A text's vector, of length 1, and the number of its tokens."""

    vector: list[float]
    tokens: int


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """A piece of an answer.

    Attributes:
        text: New text, possibly empty; whole characters only.
        tokens: Tokens generated so far, with an end-of-sequence token that ended it.
        finish_reason: "stop" or "length" on the last piece, else None.
        token_logprobs: Of the tokens whose text is shown with this piece, if the request asked for them.
        at: When the engine made it, on the `time.monotonic` clock; for metrics.
    """

    text: str
    tokens: int
    finish_reason: str | None = None
    token_logprobs: tuple[TokenLogprob, ...] = ()
    at: float = field(default=0.0, compare=False)


@dataclass(slots=True)
class Generation:
    """An accepted request: iterate it for chunks; the last has a finish reason. Lives on one event loop.

    Attributes:
        prompt_tokens: Length of the encoded prompt, BOS included.
        on_cancel: What the engine does when the client has left; it then pushes an error, as soon as it has let go.
        cached_tokens: Prompt tokens that were not computed again; valid from the first chunk on.
        submitted: When it was accepted, on the `time.monotonic` clock; for metrics.
        begun: The engine has begun with the prompt.
        tokens: Generated so far, whether or not somebody has read them.
        on_end: Told once the engine has let go of it: `tokens` grows no more.
        over: It has.
    """

    prompt_tokens: int
    on_cancel: Callable[[], object] | None = None
    cached_tokens: int = 0
    submitted: float = field(default_factory=time.monotonic)
    begun: bool = False
    tokens: int = 0
    on_end: Callable[[], object] | None = None
    over: bool = False
    _events: asyncio.Queue[OutputChunk | VicunaError] = field(default_factory=asyncio.Queue)
    _ended: bool = False

    def push(self, event: OutputChunk | VicunaError) -> None:
        """Hand over the next piece or the failure that ends it, behind which nothing counts; on the event loop only."""
        if self.over:
            return
        self._events.put_nowait(event)
        if isinstance(event, OutputChunk):
            self.tokens = event.tokens
        if isinstance(event, VicunaError) or event.finish_reason is not None:
            self.over = True
            if self.on_end is not None:
                self.on_end()

    def cancel(self) -> None:
        """Stop generating; harmless when it has ended already."""
        if not self._ended:
            self._ended = True
            if self.on_cancel is not None:
                self.on_cancel()

    def __aiter__(self) -> AsyncIterator[OutputChunk]:
        return self

    async def __anext__(self) -> OutputChunk:
        if self._ended:
            raise StopAsyncIteration
        event = await self._events.get()
        if isinstance(event, VicunaError):
            self._ended = True
            raise event
        if event.finish_reason is not None:
            self._ended = True
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()


class Engine(Protocol):
    """One model, shared by all requests. All methods are called on one event loop."""

    stats: EngineStats

    @property
    def context_length(self) -> int:
        """The most tokens of prompt and answer together; valid once loaded."""

    @property
    def embedding_size(self) -> int:
        """Numbers in a vector; valid once loaded."""

    @property
    def chats(self) -> bool:
        """Whether conversations are answered, not only plain prompts; valid once loaded."""

    @property
    def hung(self) -> bool:
        """Whether something has not come to its end for so long that only a new process helps."""

    async def load(self) -> None:
        """Load the model without blocking the event loop.

        Raises:
            VicunaError: When it cannot be loaded here; the message says what to do.
        """

    async def prepare(
        self, prompt: PromptInput | PreparedPrompt, max_tokens: int | None, *, trim: bool = False
    ) -> PreparedPrompt:
        """Encode a prompt, if there is room for its answers; one that is prepared already is returned.

        Args:
            prompt: What is to be answered.
            max_tokens: As in `GenerationRequest`.
            trim: Whether the oldest turns of a conversation may be left out where it is too long.

        Raises:
            RequestError, OverloadedError: As in `submit`.
        """

    async def submit(self, request: GenerationRequest) -> Generation:
        """Accept a request, which may then wait for its turn.

        Raises:
            RequestError: The request does not fit the context, its messages cannot be rendered, or a token id
                is not in the vocabulary.
            OverloadedError: As many requests are waiting as may wait.
        """

    async def embed(self, prompts: Sequence[str | tuple[int, ...]], scope: CacheScope = EVERYBODY) -> list[Embedding]:
        """Return one vector per prompt: the mean over its tokens of the last hidden state, scaled to length 1.

        Requests of this scope alone may go on from the prompts' keys and values.

        Raises:
            RequestError: A prompt has no token or does not fit the context; all are refused then.
            OverloadedError: As many requests are waiting as may wait.
        """

    async def score(
        self, prompts: Sequence[PromptInput | PreparedPrompt], top: int, most: int, scope: CacheScope = EVERYBODY
    ) -> list[list[PromptToken]]:
        """Return each prompt's tokens with their likelihoods, and those of so many likeliest (0 to 20) beside each.

        Args:
            prompts: What is to be read.
            top: How many of the likeliest are told beside each token.
            most: So many tokens may all prompts have together.
            scope: Who may go on from their keys and values.

        Raises:
            RequestError: A prompt has no token or does not fit the context, or all have too many; all are refused then.
            OverloadedError: As many requests are waiting as may wait.
        """

    async def tokenize(self, prompt: ChatPrompt | str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the token ids of a conversation, or of a text, with BOS unless `add_special_tokens` is False.

        Raises:
            RequestError: The messages cannot be rendered, or it is more than a few contexts.
            OverloadedError: As many prompts wait to be encoded as may wait.
        """

    async def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included.

        Raises:
            RequestError: An id is not in the vocabulary, or they are more than a few contexts.
            OverloadedError: As many prompts wait to be encoded as may wait.
        """

    async def close(self) -> None:
        """Stop the engine; whatever still runs ends with an error."""
