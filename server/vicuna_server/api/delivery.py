"""From running choices to the response: whole, chunk by chunk, or as an event stream."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from vicuna_server.api.choices import Choices
from vicuna_server.api.continuation import StreamReport, continuation_of
from vicuna_server.api.count_comments import CountComments
from vicuna_server.api.counting import counts_of
from vicuna_server.api.event_size import split_chunk
from vicuna_server.api.metrics import Metrics
from vicuna_server.api.settings import ServiceSettings
from vicuna_server.asgi.sse import DONE, EventStream, error_frames, frame, while_connected
from vicuna_server.engine import OutputChunk, TokenLogprob
from vicuna_server.errors import OverloadedError, VicunaError

__all__ = ["WRITE_GRACE", "CompletedChoice", "Delivery"]

WRITE_GRACE = 30.0
"""Seconds beyond the stream's own limit in which a slow reader may fetch what is written already."""


@dataclass(slots=True)
class CompletedChoice:
    """A complete choice of a response that is not streamed."""

    text: str = ""
    finish_reason: str = "stop"
    logprobs: list[TokenLogprob] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Brings completions to the client, and stops generating when the client leaves."""

    settings: ServiceSettings
    metrics: Metrics

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
        frames = self._frames(choices, request, opening, encode, tail, frame, failed)
        return EventStream(frames, self.settings.keepalive_seconds, limit, headers, failed)

    async def _frames(
        self,
        choices: Choices,
        request: Request,
        opening: Sequence[bytes],
        encode: Callable[[int, OutputChunk], Sequence[object]],
        tail: Callable[[], Sequence[object]],
        frame: Callable[[Any], bytes],
        failed: Callable[[VicunaError], bytes],
    ) -> AsyncGenerator[bytes, None]:
        # The opening waits for the first text: until a byte has come, a gateway can still try another server.
        begun = False
        comments = CountComments(counts_of(request), lambda: choices.used)
        report = StreamReport(continuation_of(request), lambda: choices.cached_tokens)
        try:
            async with aclosing(self._observed(choices, request)) as chunks:
                async for index, chunk in chunks:
                    report.take(chunk)
                    if events := [event for part in split_chunk(chunk) for event in encode(index, part)]:
                        opened, passed = opening, report.passed(len(opening) + len(events))
                        opening = ()
                        if passed < len(opened) + len(events):
                            begun = True
                            said = [*opened, *map(frame, events)][passed:]
                            yield b"".join([comments.next(), report.next(), *said])
            said = [*opening, *map(frame, tail())]
            said = said[report.passed(len(said)) :]
            yield b"".join([report.next(), *said, comments.last(final=choices.over), DONE])
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
                        if choices.state is None:
                            self.metrics.on_first_token(chunk.at - generation.submitted)
                    if chunk.finish_reason is not None and choices.state is None:
                        self.metrics.on_completion(chunk.at - first[index].at, chunk.tokens - first[index].tokens)
                    yield index, chunk
        finally:
            request.state.note["usage"] = choices.usage
