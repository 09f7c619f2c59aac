"""`POST /v1/responses`, and the routes of the responses that are kept."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_contract.names import TRIMMED_HEADER
from vicuna_server.api.continuation import continuation_of
from vicuna_server.api.conversation import choice_of, tools_of
from vicuna_server.api.generation import GenerationService
from vicuna_server.api.responses.answering import PlainText
from vicuna_server.api.responses.kept import router as kept_router
from vicuna_server.api.responses.opening import open_conversation, refers_to_kept
from vicuna_server.api.responses.run import ResponseRun
from vicuna_server.api.responses.store import ResponseStore
from vicuna_server.api.sharing import caller_of
from vicuna_server.asgi.openapi import operation
from vicuna_server.asgi.sse import named_frame
from vicuna_server.engine import ChatPrompt
from vicuna_server.errors import RequestError
from vicuna_server.protocol.responses.ids import RESPONSE, item_ids, new_id, replica_tag
from vicuna_server.protocol.responses.request import ResponsesRequest
from vicuna_server.protocol.responses.response import ResponseObject, response_object
from vicuna_server.tools.planning import plan_answer

__all__ = ["MAX_ENTRIES", "router"]

MAX_ENTRIES = 2**16
"""Tokens of a response, each with as many more as it has alternatives.

Events at the end of a stream repeat the whole response, so that streams are limited too: 8 MiB, at 128 bytes each.
"""
_SCHEMA_PARAM = "tools.{}.parameters"
_NAMES = {"messages": "input", "max_tokens": "max_output_tokens"}
"""This route's names of fields, by those in the engine's messages."""


def router(service: GenerationService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()
    store = ResponseStore(service.settings.kept_responses)
    new = partial(new_id, tag=replica_tag(socket.gethostname()))
    routes.include_router(kept_router(store))

    @routes.post("/v1/responses", openapi_extra=operation(ResponsesRequest, ResponseObject))
    async def create(request: Request) -> Response:
        """Answer a conversation of items, whole or as a stream of named events."""
        body = await service.read(request, ResponsesRequest)
        service.check(body)
        caller = caller_of(request)
        tools, choice = tools_of(body.offered), choice_of(body)
        opened = open_conversation(body, caller, store, new)
        continuation = continuation_of(request)
        if refers_to_kept(body):
            continuation.off = "kept"
        # The id of a response that another server has begun names that one.
        own = continuation.state is None
        keeps = own and body.store is not False and store.has_room(caller, opened.inputs)
        limit, ceiling = body.max_output_tokens, MAX_ENTRIES // (1 + (body.alternatives or 0))
        with _own_names():
            plan = plan_answer(service.engine.chat_format, tools, choice, body.format_constraint, _SCHEMA_PARAM)
            conversation = ChatPrompt(opened.messages, plan.tools)
            prompt = await service.engine.prepare(
                conversation, limit, trim=body.truncation == "auto", scope=service.scope(request)
            )
            asked = (request, body, [prompt], limit, body.alternatives)
            choices = await service.start(*asked, constraint=plan.constraint, shown=plan.shown, ceiling=ceiling)
        response = response_object(service.envelope(new(RESPONSE), request), body, store=keeps)
        keep = partial(_keep, store, caller, opened.inputs)
        parser = plan.parser(response["id"], thinking=prompt.thinking) or PlainText()
        run = ResponseRun(response, choices, parser, item_ids(response["id"]), keep)
        headers = {TRIMMED_HEADER: str(prompt.left_out)} if prompt.left_out else None
        if body.stream:
            return service.delivery.stream(
                choices, request, run.opening(), run.encode, run.tail, headers, frame=named_frame, failed=run.failed
            )
        await service.delivery.consume(choices, request, partial(run.encode, 0))
        return JSONResponse(run.whole(), headers=headers)

    return routes


def _keep(store: ResponseStore, caller: str, inputs: tuple[bytes, ...], response: ResponseObject) -> bool:
    return store.put(caller, response["id"], response, inputs)


@contextmanager
def _own_names() -> Iterator[None]:
    """Tell errors of the engine in this route's names of fields."""
    try:
        yield
    except RequestError as error:
        theirs = error.param or ""
        error.param = _NAMES.get(theirs, error.param)
        error.message = error.message.replace(f"{theirs}:", f"{error.param}:", 1) if theirs in _NAMES else error.message
        raise
