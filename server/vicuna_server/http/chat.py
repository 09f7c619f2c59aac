"""`POST /v1/chat/completions`."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_server.engine import ChatPrompt, Delta
from vicuna_server.http.body import read_body
from vicuna_server.http.generation import Answerer
from vicuna_server.http.sse import frame
from vicuna_server.prompts import Message
from vicuna_server.protocol.chat import ChatRequest, chat_chunk, chat_response, usage_chunk
from vicuna_server.protocol.usage import now

__all__ = ["router"]


def router(answerer: Answerer) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", openapi_extra={"requestBody": _BODY})
    async def chat_completions(request: Request) -> Response:
        """Answer a conversation, whole or as a stream of server-sent events."""
        body = await read_body(request, ChatRequest, answerer.settings)
        messages = tuple(
            Message("system" if message.role == "developer" else message.role, message.text())
            for message in body.messages
        )
        generation = await answerer.start(body, ChatPrompt(messages), body.token_limit)
        head = (f"chatcmpl-{request.state.request_id}", now(), answerer.settings.served_name)
        if not body.stream:
            whole = await answerer.whole(generation, request)
            counts = (whole.prompt_tokens, whole.tokens)
            return JSONResponse(chat_response(*head, whole.text, whole.finish_reason, *counts))

        def encode(delta: Delta) -> list[bytes]:
            events = [frame(chat_chunk(*head, {"content": delta.text}))] if delta.text else []
            if delta.finish_reason is not None:
                events.append(frame(chat_chunk(*head, {}, delta.finish_reason)))
            return events

        def tail(tokens: int) -> list[bytes]:
            return [frame(usage_chunk(*head, generation.prompt_tokens, tokens))] if body.include_usage else []

        opening = frame(chat_chunk(*head, {"role": "assistant", "content": ""}))
        return answerer.stream(generation, [opening], encode, tail)

    return routes


_BODY = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
