"""Counts and logs requests that were refused before they reached a model, by key and status. Pure ASGI.

Since it sees every response, it also adds `x-request-id` to each, by which a request is found in the logs.
"""

import json
import logging
from typing import Protocol

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vicuna_server.asgi.access_log import ACCESS_LOG
from vicuna_server.asgi.request_id import request_id

__all__ = ["Refusals", "mark_forwarded"]

_access = logging.getLogger(ACCESS_LOG)

_FORWARDED = "forwarded"
_MOST_OF_A_PATH = 200


class OnRefused(Protocol):
    """Called with each refusal: the key's name and the status."""

    def __call__(self, key: str, status: int) -> None: ...


def mark_forwarded(request: Request) -> None:
    """Mark a request that has found its model: from then on `Forward` counts and logs it."""
    setattr(request.state, _FORWARDED, True)


class Refusals:
    """Sees every response, and puts the request's id into the ASGI state as `request_id`.

    Args:
        app: the whole gateway.
        on_refused: called with the key's name (empty: no valid key) and the status.
    """

    def __init__(self, app: ASGIApp, on_refused: OnRefused) -> None:
        self._app = app
        self._on_refused = on_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        ident = state["request_id"] = request_id(Headers(scope=scope).get("x-request-id", ""))

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", ident.encode("latin-1"))]
                if message["status"] >= 400 and _FORWARDED not in state:
                    self._note(scope, message["status"])
            await send(message)

        await self._app(scope, receive, noting)

    def _note(self, scope: Scope, status: int) -> None:
        state = scope["state"]
        key = state.get("key")
        name = key.name if key else ""
        self._on_refused(name, status)
        line = {"event": "refused", "id": state["request_id"]}
        line |= {"method": scope["method"], "route": scope["path"][:_MOST_OF_A_PATH]}
        client = scope.get("client") or ("",)
        _access.info("%s", json.dumps({**line, "client": client[0], "key": name, "status": status}))
