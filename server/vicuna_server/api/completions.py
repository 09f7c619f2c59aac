"""`POST /v1/completions`."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_server.api.choices import Choices
from vicuna_server.api.generation import Answerer, Whole
from vicuna_server.api.logprobs import TextOffsets, joined, parts, prompt_logprobs
from vicuna_server.api.pieces import pieces
from vicuna_server.asgi.openapi import operation
from vicuna_server.asgi.sse import frame
from vicuna_server.engine import OutputChunk, PromptToken
from vicuna_server.protocol.answer_size import check_echo
from vicuna_server.protocol.completions import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
    completion,
    completion_choice,
)
from vicuna_server.protocol.envelope import Head

__all__ = ["router"]


def router(answerer: Answerer) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.post("/v1/completions", openapi_extra=operation(CompletionRequest, Completion))
    async def completions(request: Request) -> Response:
        """Continue one or several texts, whole or as a stream of server-sent events."""
        body = await answerer.read(request, CompletionRequest)
        answerer.check(body)
        echoes = [await _text(answerer, prompt) for prompt in body.prompts] if body.echo else []
        check_echo(echoes, body.choices)
        scored = await answerer.score(request, body.prompts, body.scored, body.choices)
        if body.max_tokens == 0:
            choices = answerer.unanswered(request, [len(tokens) for tokens in scored], body.choices)
        else:
            choices = await answerer.start(request, body, body.prompts, body.max_tokens, body.logprobs)
        told = _Told(body, answerer.head("cmpl"), choices, echoes, scored)
        if body.stream:
            opening = [frame(chunk) for chunk in told.opening()]
            return answerer.stream(choices, request, opening, told.encode, told.tail)
        answers = [told.whole(index, one) for index, one in enumerate(await answerer.whole(choices, request))]
        return JSONResponse({**completion(told.head, answers), "usage": choices.usage})

    return routes


class _Told:
    """One request's answers in OpenAI's form.

    Args:
        body: what was asked.
        head: what all parts have in common.
        choices: the running answers.
        echoes: the prompts' texts, where they are given back.
        scored: the prompts' tokens, where their likelihoods are told.
    """

    def __init__(
        self,
        body: CompletionRequest,
        head: Head,
        choices: Choices,
        echoes: Sequence[str],
        scored: Sequence[Sequence[PromptToken]],
    ) -> None:
        self.head = head
        self._body = body
        self._choices = choices
        self._echoes = echoes
        self._scored = scored
        self._offsets = [TextOffsets(alternatives=bool(body.logprobs)) for _ in range(choices.count)]

    def whole(self, index: int, answer: Whole) -> CompletionChoice:
        """Return a complete answer."""
        echoed = self._echoed(index)
        logprobs = self._offsets[index].take(answer.logprobs) if self._body.logprobs is not None else None
        text = self._echo(index) + answer.text
        choice = completion_choice(index, text, answer.finish_reason, joined(echoed, logprobs))
        if self._body.prompt_logprobs is not None:
            choice["prompt_logprobs"] = prompt_logprobs(self._prompt(index, self._body.prompt_logprobs))
        return choice

    def opening(self) -> list[Completion]:
        """Return the events in front of the first text: the prompts that are given back."""
        return [self._event(choice) for index in range(self._choices.count) for choice in self._repeated(index)]

    def encode(self, index: int, chunk: OutputChunk) -> list[Completion]:
        """Return the event of a piece of an answer, where there is something in it."""
        if not (chunk.text or chunk.token_logprobs or chunk.finish_reason):
            return []
        logprobs = self._offsets[index].take(chunk.token_logprobs) if self._body.logprobs is not None else None
        return [self._event(completion_choice(index, chunk.text, chunk.finish_reason, logprobs))]

    def tail(self) -> list[Completion]:
        """Return the event behind the last piece."""
        return [{**completion(self.head, []), "usage": self._choices.usage}] if self._body.include_usage else []

    def _event(self, choice: CompletionChoice) -> Completion:
        chunk = completion(self.head, [choice])
        return {**chunk, "usage": None} if self._body.include_usage else chunk

    def _repeated(self, index: int) -> Iterator[CompletionChoice]:
        texts = [piece.text for piece in pieces(OutputChunk(self._echo(index), 0)) if piece.text]
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


async def _text(answerer: Answerer, prompt: str | tuple[int, ...]) -> str:
    return prompt if isinstance(prompt, str) else await answerer.engine.detokenize(prompt)
