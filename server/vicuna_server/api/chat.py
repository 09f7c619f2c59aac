"""`POST /v1/chat/completions`."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_contract.names import TRIMMED_HEADER
from vicuna_server.api.generation import Answerer
from vicuna_server.api.logprobs import chat_logprobs, prompt_logprobs
from vicuna_server.asgi.openapi import operation
from vicuna_server.asgi.sse import frame
from vicuna_server.engine import ChatPrompt, OutputChunk
from vicuna_server.prompts import Message
from vicuna_server.protocol.chat import ChatMessage, ChatRequest
from vicuna_server.protocol.chat_answer import (
    ChatAnswer,
    ChatChunk,
    chat_answer,
    chat_choice,
    chat_chunk,
    chat_usage_chunk,
)

__all__ = ["conversation", "router"]


def router(answerer: Answerer) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", openapi_extra=operation(ChatRequest, ChatAnswer))
    async def chat_completions(request: Request) -> Response:
        """Answer a conversation, whole or as a stream of server-sent events."""
        body = await answerer.read(request, ChatRequest)
        answerer.check(body)
        messages, trim = conversation(body.messages), body.truncation == "auto"
        prompt = await answerer.engine.prepare(messages, body.token_limit, trim=trim)
        headers = {TRIMMED_HEADER: str(prompt.left_out)} if prompt.left_out else None
        scored = await answerer.score(request, [prompt], body.prompt_logprobs)
        choices = await answerer.start(request, body, [prompt], body.token_limit, body.alternatives)
        head = answerer.head("chatcmpl")
        if not body.stream:
            answers = [
                chat_choice(index, one.text, one.finish_reason, chat_logprobs(one.logprobs) if body.logprobs else None)
                for index, one in enumerate(await answerer.whole(choices, request))
            ]
            answer = chat_answer(head, answers, choices.usage)
            if body.prompt_logprobs is not None:
                answer["prompt_logprobs"] = prompt_logprobs(scored[0])
            return JSONResponse(answer, headers=headers)

        def encode(index: int, chunk: OutputChunk) -> list[ChatChunk]:
            events = []
            if chunk.text or chunk.token_logprobs:
                logprobs = chat_logprobs(chunk.token_logprobs) if body.logprobs else None
                events.append(
                    chat_chunk(
                        head, index, {"content": chunk.text}, logprobs=logprobs, include_usage=body.include_usage
                    )
                )
            if chunk.finish_reason is not None:
                reason = chunk.finish_reason
                events.append(chat_chunk(head, index, {}, finish_reason=reason, include_usage=body.include_usage))
            return events

        def tail() -> list[ChatChunk]:
            return [chat_usage_chunk(head, choices.usage)] if body.include_usage else []

        opening = [
            chat_chunk(head, index, {"role": "assistant", "content": ""}, include_usage=body.include_usage)
            for index in range(choices.count)
        ]
        return answerer.stream(choices, request, [frame(chunk) for chunk in opening], encode, tail, headers)

    return routes


def conversation(messages: list[ChatMessage]) -> ChatPrompt:
    """Return the messages as the engine takes them."""
    return ChatPrompt(
        tuple(
            Message("system" if message.role == "developer" else message.role, message.text()) for message in messages
        )
    )
