"""From a validated request to its completions: what chat and plain completions share."""

import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from vicuna_server.api.choices import Choices
from vicuna_server.api.count_comments import CountComments
from vicuna_server.api.counting import counts_of
from vicuna_server.api.engine_request import engine_request
from vicuna_server.api.event_size import split_chunk
from vicuna_server.api.lifecycle import Lifecycle
from vicuna_server.api.metrics import Metrics
from vicuna_server.api.settings import ServiceSettings
from vicuna_server.api.sharing import cache_scope
from vicuna_server.asgi.body import read_body
from vicuna_server.asgi.sse import DONE, EventStream, error_frames, frame, while_connected
from vicuna_server.constraints import Constraint
from vicuna_server.engine import (
    CacheScope,
    Engine,
    Generation,
    OutputChunk,
    PreparedConstraint,
    PreparedPrompt,
    PromptInput,
    PromptToken,
    TokenLogprob,
)
from vicuna_server.errors import OverloadedError, VicunaError
from vicuna_server.protocol.body import RequestBody
from vicuna_server.protocol.envelope import Envelope
from vicuna_server.protocol.models import model_not_found
from vicuna_server.protocol.response_size import max_scored_tokens, token_limit
from vicuna_server.protocol.sampling import SamplingFields

Body = TypeVar("Body", bound=BaseModel)

__all__ = ["WRITE_GRACE", "CompletedChoice", "GenerationService"]

WRITE_GRACE = 30.0
"""Seconds beyond the stream's own limit in which a slow reader may fetch what is written already."""


@dataclass(slots=True)
class CompletedChoice:
    """A complete choice of a response that is not streamed."""

    text: str = ""
    finish_reason: str = "stop"
    logprobs: list[TokenLogprob] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class GenerationService:
    """Runs requests on the engine for the routes."""

    engine: Engine
    settings: ServiceSettings
    lifecycle: Lifecycle
    metrics: Metrics

    def check(self, body: RequestBody) -> None:
        """Refuse a request that this server cannot serve, or not yet; count its unknown fields.

        Raises:
            RequestError: 404 for another model, 503 while the model is loading.
        """
        if body.model is not None and body.model != self.settings.served_name:
            raise model_not_found(body.model, self.settings.served_name)
        if not self.lifecycle.loaded:
            raise OverloadedError("the model is still loading; try again in a moment", status=503, code="loading")
        self.metrics.on_unknown_fields(body.unknown)

    async def read(self, request: Request, model: type[Body]) -> Body:
        """Return a request's validated body.

        Raises:
            RequestError: as `read_body`.
        """
        return await read_body(request, model, self.settings.max_body_bytes, self.settings.body_seconds)

    def envelope(self, prefix: str) -> Envelope:
        """Return what all parts of a response have in common; its id is new, whatever the request's id is."""
        return Envelope(f"{prefix}-{secrets.token_hex(12)}", self.settings.served_name)

    def scope(self, request: Request) -> CacheScope:
        """Return whose keys and values in the cache a request may use."""
        return cache_scope(request, self.settings.prefix_cache)

    async def start(
        self,
        request: Request,
        body: SamplingFields,
        prompts: Sequence[PromptInput | PreparedPrompt],
        max_tokens: int | None,
        logprobs: int | None,
        *,
        constraint: Constraint | None = None,
        shown: tuple[str, ...] = (),
        ceiling: int | None = None,
    ) -> Choices:
        """Hand all choices of all prompts to the engine, once all prompts are encoded; see `engine_request`.

        Args:
            request: Whose cache is used, and whose log line gets the counts.
            body: Its fields.
            prompts: What is to be answered.
            max_tokens: The most tokens of a completion; None: up to the end of the context.
            logprobs: Alternatives reported beside each token; None: no log probabilities.
            constraint: What each completion's text may be; None: anything.
            shown: Special tokens that the text shows in any case.
            ceiling: The server's own limit for each choice; None: by the size of a whole response.

        Raises:
            RequestError: A prompt is too long, the response may become too large, the constraint cannot be honoured, or
                too many requests are waiting. Then nothing is generated for any prompt.
        """
        count, field = len(prompts) * body.choices, body.alternatives_field
        if ceiling is None and not body.stream:
            ceiling = token_limit(count, max_tokens, logprobs, field)
        scope, limit = self.scope(request), self.settings.max_stream_seconds
        format_of_answer = await self.constrain(request, body, constraint)
        ready = [await self.engine.prepare(prompt, max_tokens) for prompt in prompts]
        generations: list[Generation] = []
        try:
            for prompt in ready:
                for choice in range(body.choices):
                    wanted = engine_request(
                        body,
                        prompt,
                        choice,
                        max_tokens=max_tokens,
                        logprobs=logprobs,
                        time_limit=limit,
                        ceiling=ceiling,
                        scope=scope,
                        constraint=format_of_answer,
                        shown=shown,
                    )
                    generations.append(await self.engine.submit(wanted))
        except BaseException:
            for generation in generations:
                generation.cancel()
            raise
        return Choices(generations, body.choices, counts_of(request))

    async def constrain(
        self, request: Request, body: SamplingFields, constraint: Constraint | None
    ) -> PreparedConstraint | None:
        """Return what completions may be, checked; None: anything.

        Raises:
            RequestError: It cannot be honoured, or another field of the request stands against it.
        """
        if constraint is None:
            return None
        body.check_beside(constraint)
        return await self.engine.constrain(constraint, self.scope(request))

    async def score(
        self, request: Request, prompts: Sequence[PromptInput | PreparedPrompt], top: int | None, choices: int = 1
    ) -> list[list[PromptToken]]:
        """Return the prompts' tokens with their log probabilities; an empty list where `top` is None.

        Raises:
            RequestError: A prompt is too long, all together are too many tokens, or the client has left.
        """
        if top is None:
            return []
        return await while_connected(
            request.receive, self.engine.score(prompts, top, max_scored_tokens(top, choices), self.scope(request))
        )

    def without_generation(self, request: Request, prompt_tokens: Sequence[int], per_prompt: int) -> Choices:
        """Return empty choices for prompts of so many tokens each, for a request with `max_tokens` 0."""
        generations: list[Generation] = []
        for tokens in prompt_tokens:
            for _ in range(per_prompt):
                generations.append(Generation(tokens, begun=True))
                generations[-1].push(OutputChunk("", 0, "length", at=generations[-1].submitted))
        return Choices(generations, per_prompt, counts_of(request))

    async def complete(self, choices: Choices, request: Request) -> list[CompletedChoice]:
        """Wait for the complete choices; stop generating when the client leaves meanwhile."""
        try:
            return await while_connected(request.receive, self._collect(choices, request))
        finally:
            choices.cancel()

    async def consume(self, choices: Choices, request: Request, take: Callable[[OutputChunk], object]) -> None:
        """Hand on each chunk of the one choice; stop generating when the client leaves meanwhile."""

        async def run() -> None:
            async with aclosing(self._observed(choices, request)) as chunks:
                async for _, chunk in chunks:
                    take(chunk)

        try:
            await while_connected(request.receive, run())
        finally:
            choices.cancel()

    def stream(
        self,
        choices: Choices,
        request: Request,
        opening: Sequence[bytes],
        encode: Callable[[int, OutputChunk], Sequence[object]],
        tail: Callable[[], Sequence[object]],
        headers: Mapping[str, str] | None = None,
        frame: Callable[[Any], bytes] = frame,
        failed: Callable[[VicunaError], bytes] = error_frames,
    ) -> EventStream:
        """Return the response that streams the choices.

        Args:
            choices: The running choices.
            request: Whose log line gets the counts.
            opening: Frames sent in front of the first text, together with it.
            encode: Makes the events of a choice's output chunk.
            tail: Makes the events behind the last chunk.
            headers: Headers to add.
            frame: Writes an event.
            failed: Writes the events of an error in mid-stream.
        """
        limit = self.settings.max_stream_seconds + WRITE_GRACE
        frames = self._frames(choices, request, b"".join(opening), encode, tail, frame, failed)
        return EventStream(frames, self.settings.keepalive_seconds, limit, headers, failed)

    async def _frames(
        self,
        choices: Choices,
        request: Request,
        opening: bytes,
        encode: Callable[[int, OutputChunk], Sequence[object]],
        tail: Callable[[], Sequence[object]],
        frame: Callable[[Any], bytes],
        failed: Callable[[VicunaError], bytes],
    ) -> AsyncGenerator[bytes, None]:
        # The opening waits for the first text: until a byte has come, a gateway can still try another server.
        begun = False
        comments = CountComments(counts_of(request), lambda: choices.used)
        try:
            async with aclosing(self._observed(choices, request)) as chunks:
                async for index, chunk in chunks:
                    if events := [event for part in split_chunk(chunk) for event in encode(index, part)]:
                        begun = True
                        yield b"".join([comments.next(), opening, *map(frame, events)])
                        opening = b""
            yield b"".join([opening, *map(frame, tail()), comments.last(final=choices.over), DONE])
        except VicunaError as error:
            request.state.note["error"] = error.reason
            if not begun and isinstance(error, OverloadedError):
                raise  # The status line is not written yet: a gateway tries another server.
            # The status line is gone already.
            yield comments.last(final=False) + failed(error) + DONE
        finally:
            choices.cancel()

    async def _collect(self, choices: Choices, request: Request) -> list[CompletedChoice]:
        completed = [CompletedChoice() for _ in range(choices.count)]
        texts: list[list[str]] = [[] for _ in completed]
        async for index, chunk in self._observed(choices, request):
            texts[index].append(chunk.text)
            completed[index].logprobs += chunk.token_logprobs
            completed[index].finish_reason = chunk.finish_reason or "stop"
        for choice, parts in zip(completed, texts, strict=True):
            choice.text = "".join(parts)
        return completed

    async def _observed(self, choices: Choices, request: Request) -> AsyncGenerator[tuple[int, OutputChunk], None]:
        """Pass chunks through; report times to the metrics and the counts to the request's log line."""
        first: dict[int, OutputChunk] = {}
        try:
            async with aclosing(choices.chunks()) as chunks:
                async for index, generation, chunk in chunks:
                    if index not in first:
                        first[index] = chunk
                        self.metrics.on_first_token(chunk.at - generation.submitted)
                    if chunk.finish_reason is not None:
                        self.metrics.on_completion(chunk.at - first[index].at, chunk.tokens - first[index].tokens)
                    yield index, chunk
        finally:
            request.state.note["usage"] = choices.usage
