"""`POST /v1/completions`."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_server.engine import Delta
from vicuna_server.http.body import read_body
from vicuna_server.http.generation import Answerer
from vicuna_server.http.sse import frame
from vicuna_server.protocol.completions import (
    CompletionRequest,
    completion_chunk,
    completion_response,
    completion_usage_chunk,
)
from vicuna_server.protocol.usage import now

__all__ = ["router"]


def router(answerer: Answerer) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.post("/v1/completions", openapi_extra={"requestBody": _BODY})
    async def completions(request: Request) -> Response:
        """Continue a text, whole or as a stream of server-sent events."""
        body = await read_body(request, CompletionRequest, answerer.settings)
        generation = await answerer.start(body, body.prompt, body.max_tokens)
        head = (f"cmpl-{request.state.request_id}", now(), answerer.settings.served_name)
        if not body.stream:
            whole = await answerer.whole(generation, request)
            counts = (whole.prompt_tokens, whole.tokens)
            return JSONResponse(completion_response(*head, whole.text, whole.finish_reason, *counts))

        def encode(delta: Delta) -> list[bytes]:
            if not delta.text and delta.finish_reason is None:
                return []
            return [frame(completion_chunk(*head, delta.text, delta.finish_reason))]

        def tail(tokens: int) -> list[bytes]:
            counts = (generation.prompt_tokens, tokens)
            return [frame(completion_usage_chunk(*head, *counts))] if body.include_usage else []

        return answerer.stream(generation, [], encode, tail)

    return routes


_BODY = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
