"""From a validated request to its answers: what chat and plain completions share."""

import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from vicuna_server.api.choices import Choices
from vicuna_server.api.counting import tally_of
from vicuna_server.api.lifecycle import Lifecycle
from vicuna_server.api.metrics import Metrics
from vicuna_server.api.pieces import pieces
from vicuna_server.api.reports import Reports
from vicuna_server.api.settings import ServiceSettings
from vicuna_server.api.sharing import cache_scope
from vicuna_server.asgi.body import read_body
from vicuna_server.asgi.sse import DONE, EventStream, frame, while_connected
from vicuna_server.engine import (
    CacheScope,
    Engine,
    Generation,
    GenerationRequest,
    OutputChunk,
    PreparedPrompt,
    PromptInput,
    PromptToken,
    TokenLogprob,
)
from vicuna_server.errors import OverloadedError, RequestError, VicunaError
from vicuna_server.protocol.answer_size import most_scored, token_limit
from vicuna_server.protocol.body import RequestBody
from vicuna_server.protocol.envelope import Head
from vicuna_server.protocol.errors import error_of
from vicuna_server.protocol.quoting import quoted
from vicuna_server.protocol.sampling import SamplingFields

Body = TypeVar("Body", bound=BaseModel)

__all__ = ["WRITE_GRACE", "Answerer", "Whole"]

_SAME_NAME = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "min_tokens",
)
_SEVERAL = ("stop_token_ids", "allowed_token_ids", "bad_words")
WRITE_GRACE = 30.0
"""Seconds beyond the stream's own limit in which a slow reader may fetch what is written already."""


@dataclass(slots=True)
class Whole:
    """A complete answer."""

    text: str = ""
    finish_reason: str = "stop"
    logprobs: list[TokenLogprob] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answerer:
    """Runs requests on the engine for the routes."""

    engine: Engine
    settings: ServiceSettings
    lifecycle: Lifecycle
    metrics: Metrics

    def check(self, body: RequestBody) -> None:
        """Refuse what cannot be answered here or yet, and count fields that nothing is known of.

        Raises:
            RequestError: Unknown model, or still loading.
        """
        if body.model is not None and body.model != self.settings.served_name:
            raise RequestError(
                f"the model {quoted(body.model)} does not exist here; this server has {self.settings.served_name!r}",
                status=404,
                param="model",
                code="model_not_found",
            )
        if not self.lifecycle.loaded:
            raise OverloadedError("the model is still loading; try again in a moment", status=503, code="loading")
        self.metrics.unknown(body.unknown)

    async def read(self, request: Request, model: type[Body]) -> Body:
        """Return a request's body.

        Raises:
            RequestError: as `read_body`.
        """
        return await read_body(request, model, self.settings.max_body_bytes, self.settings.body_seconds)

    def head(self, prefix: str) -> Head:
        """Return what all parts of a response have in common; its id is new, whatever the request's is."""
        return Head(f"{prefix}-{secrets.token_hex(12)}", self.settings.served_name)

    def scope(self, request: Request) -> CacheScope:
        """Return whose keys and values a request may go on from."""
        return cache_scope(request, self.settings.prefix_cache)

    async def start(
        self,
        request: Request,
        body: SamplingFields,
        prompts: Sequence[PromptInput | PreparedPrompt],
        max_tokens: int | None,
        logprobs: int | None,
    ) -> Choices:
        """Hand all choices of all prompts to the engine, once all are encoded.

        Raises:
            RequestError: A prompt is too long, the answer may become too large, or too many requests are waiting; none
                is answered then.
        """
        answers, field = len(prompts) * body.choices, body.alternatives_field
        ceiling = None if body.stream else token_limit(answers, max_tokens, logprobs, field)
        scope, limit = self.scope(request), self.settings.max_stream_seconds
        ready = [await self.engine.prepare(prompt, max_tokens) for prompt in prompts]
        generations: list[Generation] = []
        try:
            for prompt in ready:
                for choice in range(body.choices):
                    asked = _engine_request(body, prompt, choice, max_tokens, logprobs, limit)
                    generations.append(await self.engine.submit(replace(asked, ceiling=ceiling, scope=scope)))
        except BaseException:
            for generation in generations:
                generation.cancel()
            raise
        return Choices(generations, body.choices, tally_of(request))

    async def score(
        self, request: Request, prompts: Sequence[PromptInput | PreparedPrompt], top: int | None, choices: int = 1
    ) -> list[list[PromptToken]]:
        """Return the prompts' tokens with their likelihoods; None: nothing is asked for.

        Raises:
            RequestError: A prompt is too long, all together are too many tokens, or the client has left.
        """
        if top is None:
            return []
        return await while_connected(
            request.receive, self.engine.score(prompts, top, most_scored(top, choices), self.scope(request))
        )

    def unanswered(self, request: Request, prompt_tokens: Sequence[int], per_prompt: int) -> Choices:
        """Return empty answers to prompts of so many tokens: nothing is to be generated."""
        generations: list[Generation] = []
        for tokens in prompt_tokens:
            for _ in range(per_prompt):
                generations.append(Generation(tokens, begun=True))
                generations[-1].push(OutputChunk("", 0, "length", at=generations[-1].submitted))
        return Choices(generations, per_prompt, tally_of(request))

    async def whole(self, choices: Choices, request: Request) -> list[Whole]:
        """Wait for the complete answers; stop generating when the client leaves meanwhile."""
        try:
            return await while_connected(request.receive, self._collect(choices, request))
        finally:
            choices.cancel()

    def stream(
        self,
        choices: Choices,
        request: Request,
        head: Sequence[bytes],
        encode: Callable[[int, OutputChunk], Sequence[object]],
        tail: Callable[[], Sequence[object]],
        headers: Mapping[str, str] | None = None,
    ) -> EventStream:
        """Return the response that streams the answers.

        Args:
            choices: The running answers.
            request: Whose log line gets the counts.
            head: Events sent in front of the first text, together with it.
            encode: Makes the events of a choice's chunk.
            tail: Makes the events behind the last chunk.
            headers: Headers to add.
        """
        limit = self.settings.max_stream_seconds + WRITE_GRACE
        frames = self._frames(choices, request, head, encode, tail)
        return EventStream(frames, self.settings.keepalive_seconds, limit, headers)

    async def _frames(
        self,
        choices: Choices,
        request: Request,
        head: Sequence[bytes],
        encode: Callable[[int, OutputChunk], Sequence[object]],
        tail: Callable[[], Sequence[object]],
    ) -> AsyncGenerator[bytes, None]:
        # with the first text and not before: until a byte has come, a gateway can still ask another server
        opening, begun = b"".join(head), False
        reports = Reports(tally_of(request), lambda: choices.used)
        try:
            async with aclosing(self._measured(choices, request)) as chunks:
                async for index, chunk in chunks:
                    if events := [event for piece in pieces(chunk) for event in encode(index, piece)]:
                        begun = True
                        yield b"".join([reports.next(), opening, *map(frame, events)])
                        opening = b""
            yield b"".join([opening, *map(frame, tail()), reports.last(final=choices.over), DONE])
        except VicunaError as error:
            request.state.note["error"] = error.reason
            if not begun and isinstance(error, OverloadedError):
                raise  # the status line is not written yet: a gateway asks another server
            # The status line is gone already; official clients raise on an event with an error object.
            yield reports.last(final=False) + frame(error_of(error)[1]) + DONE
        finally:
            choices.cancel()

    async def _collect(self, choices: Choices, request: Request) -> list[Whole]:
        answers = [Whole() for _ in range(choices.count)]
        pieces: list[list[str]] = [[] for _ in answers]
        async for index, chunk in self._measured(choices, request):
            pieces[index].append(chunk.text)
            answers[index].logprobs += chunk.token_logprobs
            answers[index].finish_reason = chunk.finish_reason or "stop"
        for answer, texts in zip(answers, pieces, strict=True):
            answer.text = "".join(texts)
        return answers

    async def _measured(self, choices: Choices, request: Request) -> AsyncGenerator[tuple[int, OutputChunk], None]:
        """Pass chunks through and tell metrics and log of them."""
        first: dict[int, OutputChunk] = {}
        try:
            async with aclosing(choices.chunks()) as chunks:
                async for index, generation, chunk in chunks:
                    if index not in first:
                        first[index] = chunk
                        self.metrics.first_token(chunk.at - generation.submitted)
                    if chunk.finish_reason is not None:
                        self.metrics.answered_in(chunk.at - first[index].at, chunk.tokens - first[index].tokens)
                    yield index, chunk
        finally:
            request.state.note["usage"] = choices.usage


def _engine_request(
    body: SamplingFields,
    prompt: PreparedPrompt,
    choice: int,
    max_tokens: int | None,
    logprobs: int | None,
    time_limit: float,
) -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt,
        max_tokens=max_tokens,
        top_k=max(0, body.top_k or 0),
        logit_bias=body.biases,
        logprobs=logprobs,
        stop=body.stops,
        include_stop=bool(body.include_stop_str_in_output),
        ignore_eos=bool(body.ignore_eos),
        skip_special_tokens=body.skip_special_tokens is not False,
        # Each choice draws its own numbers, the same ones each time.
        seed=None if body.seed is None else body.seed + choice,
        time_limit=time_limit,
        **_stated(body),
    )


def _stated(body: SamplingFields) -> dict[str, Any]:
    """Return what the body says of fields that have the same name, and the same default, in the engine's request."""
    values = {name: getattr(body, name) for name in _SAME_NAME}
    several = {name: tuple(value) for name in _SEVERAL if (value := getattr(body, name)) is not None}
    return {**{name: value for name, value in values.items() if value is not None}, **several}
