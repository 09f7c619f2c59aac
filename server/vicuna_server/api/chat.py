"""`POST /v1/chat/completions`."""

from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_contract.names import TRIMMED_HEADER
from vicuna_server.api.choices import Choices
from vicuna_server.api.generation import CompletedChoice, GenerationService
from vicuna_server.api.logprobs import chat_logprobs, prompt_logprobs
from vicuna_server.asgi.openapi import operation
from vicuna_server.asgi.sse import frame
from vicuna_server.engine import ChatPrompt, OutputChunk, PromptToken, TokenLogprob
from vicuna_server.prompts import Message
from vicuna_server.protocol.chat import ChatMessage, ChatRequest
from vicuna_server.protocol.chat_completion import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    ChatLogprobs,
    chat_choice,
    chat_chunk,
    chat_completion,
    chat_usage_chunk,
)
from vicuna_server.protocol.envelope import Envelope

__all__ = ["conversation", "router"]


def router(service: GenerationService) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", openapi_extra=operation(ChatRequest, ChatCompletion))
    async def chat_completions(request: Request) -> Response:
        """Complete a conversation, whole or as a stream of server-sent events."""
        body = await service.read(request, ChatRequest)
        service.check(body)
        messages, trim = conversation(body.messages), body.truncation == "auto"
        prompt = await service.engine.prepare(messages, body.token_limit, trim=trim)
        headers = {TRIMMED_HEADER: str(prompt.left_out)} if prompt.left_out else None
        scored = await service.score(request, [prompt], body.prompt_logprobs)
        choices = await service.start(
            request, body, [prompt], body.token_limit, body.alternatives, body.format_constraint
        )
        response = _ChatResponse(body, service.envelope("chatcmpl"), choices)
        if body.stream:
            opening = [frame(chunk) for chunk in response.opening()]
            return service.stream(choices, request, opening, response.encode, response.tail, headers)
        completed = await service.complete(choices, request)
        return JSONResponse(response.whole(completed, scored[0] if scored else None), headers=headers)

    return routes


class _ChatResponse:
    """One request's completions in OpenAI's form.

    Args:
        body: The request.
        envelope: What all parts of the response have in common.
        choices: The running choices.
    """

    def __init__(self, body: ChatRequest, envelope: Envelope, choices: Choices) -> None:
        self._body = body
        self._envelope = envelope
        self._choices = choices

    def whole(self, completed: Sequence[CompletedChoice], scored: Sequence[PromptToken] | None) -> ChatCompletion:
        """Return the response that is not streamed; `scored`: the prompt's tokens, if they were scored."""
        choices = [
            chat_choice(index, one.text, one.finish_reason, self._logprobs(one.logprobs))
            for index, one in enumerate(completed)
        ]
        response = chat_completion(self._envelope, choices, self._choices.usage)
        if scored is not None:
            response["prompt_logprobs"] = prompt_logprobs(scored)
        return response

    def opening(self) -> list[ChatCompletionChunk]:
        """Return the events in front of the first text: one per choice, with the role."""
        return [
            chat_chunk(
                self._envelope,
                index,
                {"role": "assistant", "content": ""},
                include_usage=self._body.include_usage,
            )
            for index in range(self._choices.count)
        ]

    def encode(self, index: int, chunk: OutputChunk) -> list[ChatCompletionChunk]:
        """Return the events of an output chunk: its text, then its finish reason."""
        events, include_usage = [], self._body.include_usage
        if chunk.text or chunk.token_logprobs:
            logprobs = self._logprobs(chunk.token_logprobs)
            delta: ChatDelta = {"content": chunk.text}
            events.append(chat_chunk(self._envelope, index, delta, logprobs=logprobs, include_usage=include_usage))
        if chunk.finish_reason is not None:
            reason = chunk.finish_reason
            events.append(chat_chunk(self._envelope, index, {}, finish_reason=reason, include_usage=include_usage))
        return events

    def tail(self) -> list[ChatCompletionChunk]:
        """Return the event behind the last output chunk: the usage, where it is asked for."""
        return [chat_usage_chunk(self._envelope, self._choices.usage)] if self._body.include_usage else []

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> ChatLogprobs | None:
        return chat_logprobs(tokens) if self._body.logprobs else None


def conversation(messages: list[ChatMessage]) -> ChatPrompt:
    """Return the messages as the engine takes them."""
    return ChatPrompt(
        tuple(
            Message("system" if message.role == "developer" else message.role, message.text()) for message in messages
        )
    )
