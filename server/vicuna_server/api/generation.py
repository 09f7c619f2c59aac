"""From a request to its running choices: what the routes that generate share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from vicuna_server.api.choices import Choices
from vicuna_server.api.continuation import continuation_of, key_of, set_state, state_size
from vicuna_server.api.counting import counts_of
from vicuna_server.api.delivery import Delivery
from vicuna_server.api.engine_request import engine_request
from vicuna_server.api.lifecycle import Lifecycle
from vicuna_server.api.metrics import Metrics
from vicuna_server.api.settings import ServiceSettings
from vicuna_server.api.sharing import cache_scope
from vicuna_server.asgi.body import read_body
from vicuna_server.asgi.sse import while_connected
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
)
from vicuna_server.errors import OverloadedError
from vicuna_server.protocol.body import RequestBody
from vicuna_server.protocol.envelope import Envelope
from vicuna_server.protocol.models import model_not_found
from vicuna_server.protocol.response_size import max_scored_tokens, token_limit
from vicuna_server.protocol.sampling import SamplingFields

Body = TypeVar("Body", bound=BaseModel)

__all__ = ["GenerationService"]


@dataclass(frozen=True, slots=True)
class GenerationService:
    """Runs requests on the engine for the routes."""

    engine: Engine
    settings: ServiceSettings
    lifecycle: Lifecycle
    metrics: Metrics

    @property
    def delivery(self) -> Delivery:
        """What sends the completions to the client."""
        return Delivery(self.settings, self.metrics)

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
        size = state_size(request)
        body, behind = await read_body(
            request, model, self.settings.max_body_bytes, self.settings.body_seconds, behind=size
        )
        set_state(request, behind)
        return body

    def envelope(self, ident: str, request: Request) -> Envelope:
        """Return what all parts of a response have in common; `ident` is its new id, whatever the request's id is."""
        return continuation_of(request).envelope(ident, self.settings.served_name)

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
        scope, limit = replace(self.scope(request), flex=body.flex), self.settings.max_stream_seconds
        continuation = continuation_of(request)
        key = key_of(self.settings.artifact, self.engine) if continuation.asked else ""
        format_of_answer = await self.constrain(request, body, constraint)
        ready = [await self.engine.prepare(prompt, max_tokens, scope=scope) for prompt in prompts]
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
                    wanted = continuation.prepared(wanted, self.engine, key, choices=count)
                    generations.append(await self.engine.submit(wanted))
        except BaseException:
            for generation in generations:
                generation.cancel()
            raise
        return Choices(generations, body.choices, counts_of(request), continuation.state)

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
