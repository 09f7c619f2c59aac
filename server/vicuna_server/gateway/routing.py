"""Finds the model that a request means; the body is changed only where it names the model by its id."""

import asyncio
import codecs
import json
import time
from dataclasses import dataclass, field

from starlette.requests import Request

from vicuna_server.asgi.body import check_encoding, read_bytes
from vicuna_server.gateway.admission import ADMITTED, Admitted
from vicuna_server.gateway.affinity import Affinity, of_beginning, of_session
from vicuna_server.gateway.catalogue import Model
from vicuna_server.gateway.holders import RESPONSES_PATH, holders, referred_item
from vicuna_server.gateway.json_skip import PIECE
from vicuna_server.gateway.keys import Key
from vicuna_server.gateway.proxy import Forward
from vicuna_server.gateway.refusals import mark_forwarded
from vicuna_server.gateway.resolving import Resolver
from vicuna_server.gateway.salts import salt_of, with_salt
from vicuna_server.gateway.scan import Named, scan
from vicuna_server.gateway.upstream import Outgoing, Upstream, request_headers

__all__ = ["Router"]


@dataclass(frozen=True, slots=True)
class Router:
    """Finds the model of a request, and forwards it to the model's servers."""

    resolver: Resolver
    upstream: Upstream
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def forward(self, request: Request) -> Forward:
        """Return the response to a POST request; it is sent when the caller awaits it.

        Raises:
            RequestError: 400, 404, 408, 413.
            OverloadedError: 429, 503: a limit of the key, or the bodies under way are too large.
        """
        arrived = time.monotonic()
        settings = self.upstream.settings
        admitted: Admitted = getattr(request.state, ADMITTED)
        check_encoding(request)
        body = await read_bytes(
            request, settings.max_body_bytes, settings.body_seconds, discard=1, count=admitted.add_body
        )
        body = body.removeprefix(codecs.BOM_UTF8)  # servers refuse a byte order mark
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
            affinity=self._affinity(request, body, named, salt_of(key, model)),
            continues=self._continues(request, named, body, model),
        )
        completion = 0 if outgoing.path.endswith("/embeddings") else named.completion
        reservation = await self.upstream.accounting.open(key, model.id, len(body) + completion)
        mark_forwarded(request)
        return Forward(self.upstream, model, outgoing, reservation)

    def _affinity(self, request: Request, body: bytes, named: Named, salt: str) -> Affinity:
        """Return what a request prefers an endpoint by: its session, where it names one, else how it begins."""
        header = self.upstream.settings.session_header
        session = request.headers.get(header, "") if header else ""
        return of_session(session, salt) if session else of_beginning(request.scope["path"], body, named.texts, salt)

    def _continues(self, request: Request, named: Named, body: bytes, model: Model) -> str:
        """Return the id by which only those servers get a request that may keep what it refers to; empty: any may."""
        if request.scope["path"] != RESPONSES_PATH:
            return ""
        item = "" if named.previous else referred_item(body)
        return item if holders(self.upstream.endpoints(model), item) else named.previous

    async def _scanned(self, body: bytes) -> Named:
        """Return what a body names. One large body is scanned at a time, and other requests run between its pieces."""
        if len(body) <= PIECE:
            return await _step_by_step(body, pausing=False)
        async with self._turn:
            return await _step_by_step(body, pausing=True)


async def _step_by_step(body: bytes, *, pausing: bool) -> Named:
    steps = scan(body)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            named: Named = done.value
            return named
        if pausing:
            await asyncio.sleep(0)


def _renamed(body: bytes, named: Named, model: Model) -> bytes:
    """Return the body with the model's name in its own server's API."""
    if named.model == model.served_name:
        return body
    return b"".join((body[: named.start], json.dumps(model.served_name).encode(), body[named.end :]))
