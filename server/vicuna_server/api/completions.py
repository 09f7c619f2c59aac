"""`POST /v1/completions`."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_server.api.choices import Choices
from vicuna_server.api.delivery import CompletedChoice
from vicuna_server.api.event_size import split_chunk
from vicuna_server.api.generation import GenerationService
from vicuna_server.api.logprobs import TextOffsets, joined, parts, prompt_logprobs
from vicuna_server.asgi.openapi import operation
from vicuna_server.asgi.sse import frame
from vicuna_server.engine import OutputChunk, PromptToken
from vicuna_server.protocol.completions import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
    completion,
    completion_choice,
)
from vicuna_server.protocol.envelope import Envelope, new_ident
from vicuna_server.protocol.response_size import check_echo

__all__ = ["router"]


def router(service: GenerationService) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.post("/v1/completions", openapi_extra=operation(CompletionRequest, Completion))
    async def completions(request: Request) -> Response:
        """Complete one or several texts, whole or as a stream of server-sent events."""
        body = await service.read(request, CompletionRequest)
        service.check(body)
        echoes = [await _text(service, prompt) for prompt in body.prompts] if body.echo else []
        check_echo(echoes, body.choices)
        scored = await service.score(request, body.prompts, body.scored, body.choices)
        if body.max_tokens == 0:
            await service.constrain(request, body, body.format_constraint)
            choices = service.without_generation(request, [len(tokens) for tokens in scored], body.choices)
        else:
            choices = await service.start(
                request, body, body.prompts, body.max_tokens, body.logprobs, constraint=body.format_constraint
            )
        response = _CompletionResponse(body, service.envelope(new_ident("cmpl"), request), choices, echoes, scored)
        if body.stream:
            opening = [frame(chunk) for chunk in response.opening()]
            return service.delivery.stream(choices, request, opening, response.encode, response.tail)
        return JSONResponse(response.whole(await service.delivery.complete(choices, request)))

    return routes


class _CompletionResponse:
    """One request's completions in OpenAI's form.

    Args:
        body: The request.
        envelope: What all parts of the response have in common.
        choices: The running choices.
        echoes: The prompts' texts, where the response repeats them.
        scored: The prompts' tokens, where they were scored.
    """

    def __init__(
        self,
        body: CompletionRequest,
        envelope: Envelope,
        choices: Choices,
        echoes: Sequence[str],
        scored: Sequence[Sequence[PromptToken]],
    ) -> None:
        self._envelope = envelope
        self._body = body
        self._choices = choices
        self._echoes = echoes
        self._scored = scored
        self._offsets = [TextOffsets(alternatives=bool(body.logprobs)) for _ in range(choices.count)]

    def whole(self, completed: Sequence[CompletedChoice]) -> Completion:
        """Return the response that is not streamed."""
        choices = [self._whole(index, one) for index, one in enumerate(completed)]
        return {**completion(self._envelope, choices), "usage": self._choices.usage}

    def _whole(self, index: int, completed: CompletedChoice) -> CompletionChoice:
        echoed = self._echoed(index)
        logprobs = self._offsets[index].take(completed.logprobs) if self._body.logprobs is not None else None
        text = self._echo(index) + completed.text
        choice = completion_choice(index, text, completed.finish_reason, joined(echoed, logprobs))
        if self._body.prompt_logprobs is not None:
            choice["prompt_logprobs"] = prompt_logprobs(self._prompt(index, self._body.prompt_logprobs))
        return choice

    def opening(self) -> list[Completion]:
        """Return the events in front of the first text: the prompts that are repeated."""
        return [self._event(choice) for index in range(self._choices.count) for choice in self._repeated(index)]

    def encode(self, index: int, chunk: OutputChunk) -> list[Completion]:
        """Return the event of an output chunk; none for an empty chunk."""
        if not (chunk.text or chunk.token_logprobs or chunk.finish_reason):
            return []
        logprobs = self._offsets[index].take(chunk.token_logprobs) if self._body.logprobs is not None else None
        return [self._event(completion_choice(index, chunk.text, chunk.finish_reason, logprobs))]

    def tail(self) -> list[Completion]:
        """Return the event behind the last output chunk: the usage, where it is asked for."""
        return [{**completion(self._envelope, []), "usage": self._choices.usage}] if self._body.include_usage else []

    def _event(self, choice: CompletionChoice) -> Completion:
        chunk = completion(self._envelope, [choice])
        return {**chunk, "usage": None} if self._body.include_usage else chunk

    def _repeated(self, index: int) -> Iterator[CompletionChoice]:
        texts = [chunk.text for chunk in split_chunk(OutputChunk(self._echo(index), 0)) if chunk.text]
        for text, logprobs in zip_longest(texts, parts(self._echoed(index))):
            yield completion_choice(index, text or "", None, logprobs)

    def _echo(self, index: int) -> str:
        return self._echoes[index // self._choices.per_prompt] if self._echoes else ""

    def _echoed(self, index: int) -> CompletionLogprobs | None:
        if self._body.logprobs is None or not self._body.echo:
            return None
        return self._offsets[index].take_prompt(self._prompt(index, self._body.logprobs), self._echo(index))

    def _prompt(self, index: int, alternatives: int) -> list[PromptToken]:
        return [token.among(alternatives) for token in self._scored[index // self._choices.per_prompt]]


async def _text(service: GenerationService, prompt: str | tuple[int, ...]) -> str:
    return prompt if isinstance(prompt, str) else await service.engine.detokenize(prompt)
