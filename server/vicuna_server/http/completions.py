"""`POST /v1/completions`."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_server.engine import Delta
from vicuna_server.http.body import read_body
from vicuna_server.http.generation import Answerer
from vicuna_server.http.logprobs import TextOffsets
from vicuna_server.http.openapi import operation
from vicuna_server.http.sse import frame
from vicuna_server.protocol.completions import Completion, CompletionRequest, completion, completion_choice

__all__ = ["router"]


def router(answerer: Answerer) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.post("/v1/completions", openapi_extra=operation(CompletionRequest, Completion))
    async def completions(request: Request) -> Response:
        """Continue one or several texts, whole or as a stream of server-sent events."""
        body = await read_body(request, CompletionRequest, answerer.settings)
        answerer.check(body.model)
        echoes = [await _text(answerer, prompt) for prompt in body.prompts] if body.echo else []
        scope = answerer.scope(request)
        choices = await answerer.start(body, body.prompts, body.max_tokens, body.logprobs, scope)
        head = answerer.head(request, "cmpl")
        offsets = [TextOffsets(alternatives=bool(body.logprobs)) for _ in range(choices.count)]

        def echo(index: int) -> str:
            return echoes[index // choices.per_prompt] if echoes else ""

        if not body.stream:
            answers = []
            for index, one in enumerate(await answerer.whole(choices, request)):
                logprobs = offsets[index].take(one.logprobs) if body.logprobs is not None else None
                answers.append(completion_choice(index, echo(index) + one.text, one.finish_reason, logprobs))
            return JSONResponse({**completion(head, answers), "usage": choices.usage})

        def event(index: int, delta: Delta) -> Completion:
            logprobs = offsets[index].take(delta.token_logprobs) if body.logprobs is not None else None
            chunk = completion(head, [completion_choice(index, delta.text, delta.finish_reason, logprobs)])
            return {**chunk, "usage": None} if body.include_usage else chunk

        def encode(index: int, delta: Delta) -> list[Completion]:
            worth = delta.text or delta.token_logprobs or delta.finish_reason
            return [event(index, delta)] if worth else []

        def tail() -> list[Completion]:
            return [{**completion(head, []), "usage": choices.usage}] if body.include_usage else []

        opening = [event(index, Delta(echo(index), 0)) for index in range(choices.count) if echo(index)]
        return answerer.stream(choices, request, [frame(chunk) for chunk in opening], encode, tail)

    return routes


async def _text(answerer: Answerer, prompt: str | tuple[int, ...]) -> str:
    return prompt if isinstance(prompt, str) else await answerer.engine.detokenize(prompt)
