"""From a request to the model it means; the body is changed only where it gives the model's long name."""

import asyncio
import codecs
import json
import time
from dataclasses import dataclass, field

from starlette.requests import Request

from vicuna_server.asgi.body import check_encoding, read_bytes
from vicuna_server.gateway.admission import PLACE, Place
from vicuna_server.gateway.catalogue import Model
from vicuna_server.gateway.keys import Key
from vicuna_server.gateway.proxy import Forward
from vicuna_server.gateway.refusals import mark_forwarded
from vicuna_server.gateway.resolving import Resolver
from vicuna_server.gateway.salts import with_salt
from vicuna_server.gateway.scan import PIECE, Named, scan
from vicuna_server.gateway.upstream import Outgoing, Upstream, request_headers

__all__ = ["Router"]


@dataclass(frozen=True, slots=True)
class Router:
    """Finds who answers a request."""

    resolver: Resolver
    upstream: Upstream
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def forward(self, request: Request) -> Forward:
        """Return the answer to a POST, to be carried out.

        Raises:
            RequestError: 400, 404, 408, 413; OverloadedError 429, 503 when the bodies under way are too large.
        """
        arrived = time.monotonic()
        settings = self.upstream.settings
        place: Place = getattr(request.state, PLACE)
        check_encoding(request)
        body = await read_bytes(request, settings.max_body_bytes, settings.body_seconds, discard=1, count=place.take)
        body = body.removeprefix(codecs.BOM_UTF8)  # as json does; servers refuse it
        named = await self._scanned(body)
        key: Key = request.state.key
        model = self.resolver.model(request, named.model)
        ident: str = request.state.request_id
        outgoing = Outgoing(
            path=request.scope["path"],
            body=_renamed(body, named, model),
            headers=with_salt(request_headers(request.headers.raw, ident), key, model),
            request_id=ident,
            streams=named.stream,
            key=key.name,
            arrived=arrived,
        )
        answer = 0 if outgoing.path.endswith("/embeddings") else named.answer
        reservation = await self.upstream.accounting.open(key, model.id, len(body) + answer)
        mark_forwarded(request)
        return Forward(self.upstream, model, outgoing, reservation)

    async def _scanned(self, body: bytes) -> Named:
        """Return what a body names. One large body is looked at at a time, and everybody else between its pieces."""
        if len(body) <= PIECE:
            return await _step_by_step(body, rest=False)
        async with self._turn:
            return await _step_by_step(body, rest=True)


async def _step_by_step(body: bytes, *, rest: bool) -> Named:
    steps = scan(body)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            named: Named = done.value
            return named
        if rest:
            await asyncio.sleep(0)


def _renamed(body: bytes, named: Named, model: Model) -> bytes:
    """Return the body with the name by which the model's own server knows it."""
    if named.model == model.served_name:
        return body
    return b"".join((body[: named.start], json.dumps(model.served_name).encode(), body[named.end :]))
