"""From a validated request to text: what chat and plain completions share."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from starlette.requests import Request

from vicuna_server.engine import ChatPrompt, Delta, Engine, Generation, GenerationRequest
from vicuna_server.errors import OverloadedError, RequestError, VicunaError
from vicuna_server.http.lifecycle import Lifecycle
from vicuna_server.http.metrics import Metrics
from vicuna_server.http.settings import ServiceSettings
from vicuna_server.http.sse import DONE, EventStream, frame, until_disconnect
from vicuna_server.protocol.errors import error_of
from vicuna_server.protocol.sampling import SamplingFields

__all__ = ["Answerer", "Whole"]

WRITE_GRACE = 30.0
"""Seconds beyond the stream's own limit in which a slow reader may fetch what is written already."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A complete answer."""

    text: str
    finish_reason: str
    prompt_tokens: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Answerer:
    """Runs requests on the engine for the routes."""

    engine: Engine
    settings: ServiceSettings
    lifecycle: Lifecycle
    metrics: Metrics

    async def start(self, body: SamplingFields, prompt: ChatPrompt | str, max_tokens: int | None) -> Generation:
        """Hand the request to the engine.

        Raises:
            RequestError: Unknown model, still loading, too long, or too many at once.
        """
        if body.model != self.settings.served_name:
            raise RequestError(
                f"the model {body.model!r} does not exist here; this server has {self.settings.served_name!r}",
                status=404,
                param="model",
                code="model_not_found",
            )
        if not self.lifecycle.loaded:
            raise OverloadedError("the model is still loading; try again in a moment", status=503, code="loading")
        return await self.engine.submit(
            GenerationRequest(
                prompt=prompt,
                max_tokens=max_tokens,
                temperature=1.0 if body.temperature is None else body.temperature,
                top_p=1.0 if body.top_p is None else body.top_p,
                stop=tuple(body.stop or ()),
                seed=body.seed,
                time_limit=self.settings.max_stream_seconds,
            )
        )

    async def whole(self, generation: Generation, request: Request) -> Whole:
        """Wait for the complete answer; stop generating when the client leaves meanwhile."""
        collecting = asyncio.ensure_future(self._collect(generation))
        left = asyncio.ensure_future(until_disconnect(request.receive))
        try:
            done, _ = await asyncio.wait((collecting, left), return_when=asyncio.FIRST_COMPLETED)
            if collecting in done:
                return collecting.result()
            raise RequestError("the client left before the answer was complete", code="client_left")
        finally:
            generation.cancel()
            left.cancel()
            collecting.cancel()

    def stream(
        self,
        generation: Generation,
        head: list[bytes],
        encode: Callable[[Delta], list[bytes]],
        tail: Callable[[int], list[bytes]],
    ) -> EventStream:
        """Return the response that streams an answer.

        Args:
            generation: The running answer.
            head: Events sent before the first text.
            encode: Makes the events of a delta.
            tail: Makes the events behind the last delta from the number of generated tokens.
        """
        limit = self.settings.max_stream_seconds + WRITE_GRACE
        return EventStream(self._frames(generation, head, encode, tail), self.settings.keepalive_seconds, limit)

    async def _frames(
        self,
        generation: Generation,
        head: list[bytes],
        encode: Callable[[Delta], list[bytes]],
        tail: Callable[[int], list[bytes]],
    ) -> AsyncGenerator[bytes, None]:
        tokens = 0
        try:
            yield b"".join(head)
            async for delta in self._timed(generation):
                tokens = delta.tokens
                if events := encode(delta):
                    yield b"".join(events)
            yield b"".join([*tail(tokens), DONE])
        except VicunaError as error:
            # The status line is gone already; official clients raise on an event with an error object.
            yield frame(error_of(error)[1]) + DONE
        finally:
            generation.cancel()

    async def _collect(self, generation: Generation) -> Whole:
        pieces: list[str] = []
        last = Delta("", 0, "stop")
        async for delta in self._timed(generation):
            pieces.append(delta.text)
            last = delta
        return Whole("".join(pieces), last.finish_reason or "stop", generation.prompt_tokens, last.tokens)

    async def _timed(self, generation: Generation) -> AsyncGenerator[Delta, None]:
        started: float | None = time.monotonic()
        async for delta in generation:
            if started is not None and (delta.text or delta.finish_reason):
                self.metrics.first_token(time.monotonic() - started)
                started = None
            yield delta
