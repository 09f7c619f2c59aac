"""`POST /v1/chat/completions`."""

from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_contract.names import TRIMMED_HEADER
from vicuna_server.api.chat_parts import ChatParts
from vicuna_server.api.choices import Choices
from vicuna_server.api.conversation import choice_of, conversation, tools_of
from vicuna_server.api.delivery import CompletedChoice
from vicuna_server.api.generation import GenerationService
from vicuna_server.api.logprobs import chat_logprobs, prompt_logprobs
from vicuna_server.asgi.openapi import operation
from vicuna_server.asgi.sse import frame
from vicuna_server.engine import OutputChunk, PromptToken, TokenLogprob
from vicuna_server.protocol.chat import ChatRequest
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
from vicuna_server.protocol.envelope import Envelope, new_ident
from vicuna_server.tools.parsing import OutputParser
from vicuna_server.tools.planning import plan_answer

__all__ = ["router"]


def router(service: GenerationService) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", openapi_extra=operation(ChatRequest, ChatCompletion))
    async def chat_completions(request: Request) -> Response:
        """Complete a conversation, whole or as a stream of server-sent events."""
        body = await service.read(request, ChatRequest)
        service.check(body)
        tools, choice = tools_of(body.offered), choice_of(body)
        param = "tools.{}.function.parameters" if body.tools else "functions.{}.parameters"
        plan = plan_answer(service.engine.chat_format, tools, choice, body.format_constraint, param)
        messages = conversation(body.messages, plan.tools, body.chat_template_kwargs)
        prompt = await service.engine.prepare(
            messages, body.token_limit, trim=body.truncation == "auto", scope=service.scope(request)
        )
        headers = {TRIMMED_HEADER: str(prompt.left_out)} if prompt.left_out else None
        scored = await service.score(request, [prompt], body.prompt_logprobs)
        choices = await service.start(
            request, body, [prompt], body.token_limit, body.alternatives, constraint=plan.constraint, shown=plan.shown
        )
        envelope = service.envelope(new_ident("chatcmpl"), request)
        answers = (f"{envelope.ident}/{index}" for index in range(choices.count))
        parsers = [plan.parser(answer, thinking=prompt.thinking) for answer in answers]
        response = _ChatResponse(body, envelope, choices, parsers)
        if body.stream:
            opening = [frame(chunk) for chunk in response.opening()]
            return service.delivery.stream(choices, request, opening, response.encode, response.tail, headers)
        completed = await service.delivery.complete(choices, request)
        return JSONResponse(response.whole(completed, scored[0] if scored else None), headers=headers)

    return routes


class _ChatResponse:
    """One request's completions in OpenAI's form.

    Args:
        body: The request.
        envelope: What all parts of the response have in common.
        choices: The running choices.
        parsers: What reads each choice; None: it is text.
    """

    def __init__(
        self, body: ChatRequest, envelope: Envelope, choices: Choices, parsers: Sequence[OutputParser | None]
    ) -> None:
        self._body = body
        self._envelope = envelope
        self._choices = choices
        reasoning = body.include_reasoning is not False
        self._parts = [ChatParts(parser, legacy=body.legacy, reasoning=reasoning) for parser in parsers]

    def whole(self, completed: Sequence[CompletedChoice], scored: Sequence[PromptToken] | None) -> ChatCompletion:
        """Return the response that is not streamed; `scored`: the prompt's tokens, if they were scored."""
        choices = []
        for index, (one, parts) in enumerate(zip(completed, self._parts, strict=True)):
            message = parts.message(one.text)
            reason = parts.finish_reason(one.finish_reason)
            choices.append(chat_choice(index, message, reason, self._logprobs(one.logprobs)))
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
        parts, ended = self._parts[index], chunk.finish_reason
        deltas = parts.deltas(chunk.text, last=ended is not None)
        if chunk.token_logprobs and not deltas:
            deltas.append({"content": ""})  # their text is held back
        events = [self._event(index, delta) for delta in deltas]
        if events:
            events[0]["choices"][0]["logprobs"] = self._logprobs(chunk.token_logprobs)
        if ended is not None:
            events.append(self._event(index, {}, parts.finish_reason(ended)))
        return events

    def _event(self, index: int, delta: ChatDelta, finish_reason: str | None = None) -> ChatCompletionChunk:
        include_usage = self._body.include_usage
        return chat_chunk(self._envelope, index, delta, finish_reason=finish_reason, include_usage=include_usage)

    def tail(self) -> list[ChatCompletionChunk]:
        """Return the event behind the last output chunk: the usage, where it is asked for."""
        return [chat_usage_chunk(self._envelope, self._choices.usage)] if self._body.include_usage else []

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> ChatLogprobs | None:
        return chat_logprobs(tokens) if self._body.logprobs else None
