"""What an engine is: it takes a request and gives a stream of text that can be cancelled at any moment.

Nothing here knows torch, so that the HTTP side and the scripted engine run without it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol, Self

from vicuna_server.errors import VicunaError
from vicuna_server.prompts import Message

__all__ = ["ChatPrompt", "Delta", "Engine", "EngineStats", "Generation", "GenerationRequest"]


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation that the engine renders with the model's chat template."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation.

    Attributes:
        prompt: A conversation, or plain text that is taken as it is.
        max_tokens: The most tokens to generate; None: up to the end of the context.
        temperature: 0 takes the likeliest token; above, logits are divided by it before sampling.
        top_p: Sample only among the likeliest tokens whose probabilities add up to this.
        stop: Strings that end the answer and are never part of it.
        seed: Makes the draws of a request repeatable; None draws anew each time.
        time_limit: Seconds after which the answer ends with `finish_reason` "length"; None: no limit.
    """

    prompt: ChatPrompt | str
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    time_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer.

    Attributes:
        text: New text, possibly empty; whole characters only.
        tokens: Tokens generated so far, with an end-of-sequence token that ended it.
        finish_reason: "stop" or "length" on the last piece, else None.
    """

    text: str
    tokens: int
    finish_reason: str | None = None


@dataclass(slots=True)
class EngineStats:
    """Counters since the start and gauges of now; read by metrics and by tests."""

    running: int = 0
    waiting: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0


@dataclass(slots=True)
class Generation:
    """An accepted request: iterate it for deltas; the last has a finish reason. Lives on one event loop.

    Attributes:
        prompt_tokens: Length of the encoded prompt, BOS included.
        on_cancel: What the engine does when the client has left.
    """

    prompt_tokens: int
    on_cancel: Callable[[], object] | None = None
    _events: asyncio.Queue[Delta | VicunaError] = field(default_factory=asyncio.Queue)
    _ended: bool = False

    def push(self, event: Delta | VicunaError) -> None:
        """Hand over the next piece or the failure that ends it; on the event loop's thread only."""
        self._events.put_nowait(event)

    def cancel(self) -> None:
        """Stop generating; harmless when it has ended already."""
        if not self._ended:
            self._ended = True
            if self.on_cancel is not None:
                self.on_cancel()

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
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

    async def load(self) -> None:
        """Load the model without blocking the event loop.

        Raises:
            VicunaError: When it cannot be loaded here; the message says what to do.
        """

    async def submit(self, request: GenerationRequest) -> Generation:
        """Accept a request, which may then wait for its turn.

        Raises:
            RequestError: The request does not fit the context, or its messages cannot be rendered.
            OverloadedError: As many requests are waiting as may wait.
        """

    async def close(self) -> None:
        """Stop the engine; whatever still runs ends with an error."""
