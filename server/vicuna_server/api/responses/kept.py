"""The routes of the responses that are kept: read one, delete one, list the items that one has read."""

import json
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_server.api.responses.opening import nobody
from vicuna_server.api.responses.store import KeptResponse, ResponseStore
from vicuna_server.api.sharing import caller_of
from vicuna_server.asgi.openapi import operation
from vicuna_server.errors import RequestError
from vicuna_server.protocol.responses.ids import response_not_found
from vicuna_server.protocol.responses.response import (
    DeletedResponse,
    ItemList,
    ResponseObject,
    deleted_response,
    item_list,
)

__all__ = ["router"]

MAX_PAGE = 100
DEFAULT_PAGE = 20

_PAGING: dict[str, Any] = {
    "parameters": [
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}},
        {"name": "order", "in": "query", "schema": {"type": "string", "enum": ["asc", "desc"]}},
        {"name": "after", "in": "query", "schema": {"type": "string"}},
    ]
}


def router(store: ResponseStore) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/v1/responses/{response_id}", openapi_extra=operation(None, ResponseObject))
    async def read(request: Request, response_id: str) -> Response:
        """Return a response as it was made."""
        if request.query_params.get("stream", "false") != "false":
            raise RequestError("stream: a kept response is returned whole; leave it out", param="stream")
        return Response(_found(request, store, response_id).response, media_type="application/json")

    @routes.delete("/v1/responses/{response_id}", openapi_extra=operation(None, DeletedResponse))
    async def delete(request: Request, response_id: str) -> Response:
        """Forget a response; those that continue it stay whole."""
        _found(request, store, response_id)
        store.delete(caller_of(request), response_id)
        return JSONResponse(deleted_response(response_id))

    @routes.get("/v1/responses/{response_id}/input_items", openapi_extra=operation(None, ItemList) | _PAGING)
    async def input_items(request: Request, response_id: str) -> Response:
        """List the items that the model has read for a response, the newest first."""
        limit, order = _limit(request), request.query_params.get("order", "desc")
        if order not in ("asc", "desc"):
            raise RequestError("order: use asc or desc", param="order", code="invalid_value")
        items = [json.loads(item) for item in _found(request, store, response_id).inputs]
        ordered = items if order == "asc" else items[::-1]
        start = _behind([item["id"] for item in ordered], request.query_params.get("after"))
        page = ordered[start : start + limit]
        return JSONResponse(item_list(page, has_more=len(ordered) > start + limit))

    return routes


def _found(request: Request, store: ResponseStore, ident: str) -> KeptResponse:
    caller = caller_of(request)
    if not caller:
        raise nobody("response_id", 404)
    kept = store.get(caller, ident)
    if kept is None:
        raise response_not_found(None)
    return kept


def _limit(request: Request) -> int:
    said = request.query_params.get("limit", str(DEFAULT_PAGE))
    if not (said.isascii() and said.isdigit() and len(said) < 4 and 1 <= int(said) <= MAX_PAGE):
        raise RequestError(f"limit: use a number from 1 to {MAX_PAGE}", param="limit", code="invalid_value")
    return int(said)


def _behind(idents: list[str], after: str | None) -> int:
    if after is None:
        return 0
    if after not in idents:
        raise RequestError("after: this response has no such item; name one of an earlier page", param="after")
    return idents.index(after) + 1
