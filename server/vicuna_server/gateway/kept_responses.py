"""Passes requests about kept responses on: to the server that the id names, or to each that may keep it.

Such a request names no model, so the server is looked for among all models that the key may use. Its responses are not
counted: they state the usage of the request that made them.
"""

import logging
from collections.abc import Iterator
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vicuna_server.asgi.errors import error_response
from vicuna_server.asgi.sse import while_connected
from vicuna_server.connection_errors import CONNECTION_LOST
from vicuna_server.errors import RequestError
from vicuna_server.gateway.catalogue import Catalogue, Endpoint, Model
from vicuna_server.gateway.client import Client, ClientNotReadingError
from vicuna_server.gateway.first_event import TRY_ELSEWHERE
from vicuna_server.gateway.holders import holders
from vicuna_server.gateway.keys import Key
from vicuna_server.gateway.response_head import BadResponseError, read_head
from vicuna_server.gateway.salts import with_salt
from vicuna_server.gateway.signing import signed
from vicuna_server.gateway.upstream import Upstream, request_headers
from vicuna_server.gateway.upstream_errors import gateway_refused, invalid, no_response, refused
from vicuna_server.gateway.whole_response import pass_whole, small_response
from vicuna_server.protocol.responses.ids import replica_of, response_not_found

__all__ = ["KeptResponses", "PassedOn"]

logger = logging.getLogger(__name__)

_QUERY = ("limit", "order", "after", "include", "stream")
_MOST_OF_A_QUERY = 256


class KeptResponses:
    """Finds the servers for requests about kept responses."""

    def __init__(self, catalogue: Catalogue, upstream: Upstream) -> None:
        self._catalogue = catalogue
        self._upstream = upstream

    async def forward(self, request: Request, response_id: str) -> Response:
        """Return the response to a request about one kept response.

        Raises:
            RequestError: 404; no server keeps it for this key, or the one that did has gone.
        """
        key: Key = request.state.key
        found = list(self._holders(key, response_id))
        if not found:
            raise response_not_found(None)
        return PassedOn(self._upstream, key, request, found)

    def _holders(self, key: Key, ident: str) -> Iterator[tuple[Model, Endpoint]]:
        """Yield the endpoints that may keep it; those that the id names alone, where there are any."""
        visible = [(model, self._catalogue.endpoints(model)) for model in self._catalogue.visible(key.may_use)]
        possible = [(model, one) for model, endpoints in visible for one in holders(endpoints, ident)]
        named = [each for each in possible if each[1].replica == replica_of(ident)]
        yield from named or possible


class PassedOn(Response):
    """The response of the first server that keeps what a request is about.

    Args:
        upstream: has the connections.
        key: whose request it is.
        request: without a body.
        found: the servers that may keep it.
    """

    def __init__(self, upstream: Upstream, key: Key, request: Request, found: list[tuple[Model, Endpoint]]) -> None:
        super().__init__()
        self._upstream = upstream
        self._key = key
        self._request = request
        self._found = found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask one server after the other."""
        del scope
        client = Client(send, self._upstream.settings.idle_seconds, lambda _: None)
        try:
            await while_connected(receive, self._ask(client))
        except (RequestError, ClientNotReadingError):
            return  # nobody reads the response any more; the connection closes

    async def _ask(self, client: Client) -> None:
        refusal: Response | None = None
        for model, endpoint in self._found:
            try:
                refusal = await self._try(model, endpoint, client)
            except CONNECTION_LOST as error:
                logger.warning("%s of %s: %s", endpoint.url, model.id, type(error).__name__)
                refusal = no_response(model, 1)
            except BadResponseError as error:
                refusal = invalid(error)
            if refusal is None or client.started:
                return
        await client.respond(refusal or error_response(response_not_found(None)))

    async def _try(self, model: Model, endpoint: Endpoint, client: Client) -> Response | None:
        """Return what the client gets where no other server has it; None: it has got the response."""
        upstream, path, method = self._upstream, self._request.scope["path"], self._request.method
        assert upstream.session is not None  # noqa: S101  # requests come after `open`
        said = {name: self._request.query_params[name] for name in _QUERY if name in self._request.query_params}
        query = urlencode({name: value[:_MOST_OF_A_QUERY] for name, value in said.items()})
        headers = request_headers(self._request.headers.raw, self._request.state.request_id)
        async with upstream.session.request(
            method,
            endpoint.url + path + (f"?{query}" if query else ""),
            headers=signed(upstream.signer, model, path, with_salt(headers, self._key, model), method),
            timeout=upstream.timeout(model, streams=True),
            allow_redirects=False,
        ) as response:
            if response.status == 401:
                return gateway_refused(model, endpoint.url)
            head = read_head(response.status, response.headers, endpoint.revision)
            if response.status == 404 or response.status in TRY_ELSEWHERE:
                return await small_response(response.content, head) or refused(model, response.status)
            if head.is_stream:
                raise BadResponseError("the server of this model sent an event stream for a kept response")
            await pass_whole(response.content, head, client, upstream.buffers, lambda _: None)
        return None
