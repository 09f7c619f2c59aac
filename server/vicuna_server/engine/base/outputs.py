"""What an engine gives back: chunks of a completion, likelihoods of tokens, vectors."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

from vicuna_server.errors import VicunaError

__all__ = ["Embedding", "Generation", "OutputChunk", "PromptToken", "TokenLogprob", "TopLogprob"]


class TopLogprob(NamedTuple):
    """A token that could have been chosen, its bytes, and its natural log probability."""

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
    """A part of a completion.

    Attributes:
        text: New text, possibly empty; whole characters only.
        tokens: Tokens generated so far, with an end-of-sequence token that ended it.
        finish_reason: "stop" or "length" on the last chunk, else None.
        token_logprobs: Of the tokens whose text is shown with this chunk, if the request asked for them.
        at: When the engine made it, on the `time.monotonic` clock; for metrics.
        ids: The tokens that it came from.
    """

    text: str
    tokens: int
    finish_reason: str | None = None
    token_logprobs: tuple[TokenLogprob, ...] = ()
    at: float = field(default=0.0, compare=False)
    ids: tuple[int, ...] = field(default=(), compare=False)


@dataclass(slots=True)
class Generation:
    """An accepted request: iterate it once for chunks; the last has a finish reason. Lives on one event loop.

    Attributes:
        prompt_tokens: Length of the encoded prompt, BOS included.
        on_cancel: Called when the client has left; the engine then pushes an error as soon as it has stopped.
        cached_tokens: Prompt tokens that were not computed again; valid from the first chunk on.
        submitted: When it was accepted, on the `time.monotonic` clock; for metrics.
        begun: Whether the engine has begun with the prompt.
        tokens: Generated so far, whether or not they have been read.
        on_end: Called once it has ended: `tokens` stays as it is.
        over: Whether it has ended.
    """

    prompt_tokens: int
    on_cancel: Callable[[], object] | None = None
    cached_tokens: int = 0
    submitted: float = field(default_factory=time.monotonic)
    begun: bool = False
    tokens: int = 0
    on_end: Callable[[], object] | None = None
    over: bool = False
    _events: deque[OutputChunk | VicunaError] = field(default_factory=deque)
    _arrived: "asyncio.Future[None] | None" = None
    _ended: bool = False

    def push(self, event: OutputChunk | VicunaError) -> None:
        """Add the next chunk, or the failure that ends it; nothing counts after the end. On the event loop only."""
        if self.over:
            return
        self._events.append(event)
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)
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
        while not self._events:
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        event = self._events.popleft()
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
