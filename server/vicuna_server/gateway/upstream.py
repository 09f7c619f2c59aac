"""Sends requests to models' servers; has the connections, counts and limits that all requests share."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from io import BytesIO

import aiohttp

from vicuna_contract.names import COUNTING_HEADER, COUNTS_PATH, STATE_HEADER
from vicuna_server.gateway.accounting import accounting_of
from vicuna_server.gateway.affinity import NONE, Affinity
from vicuna_server.gateway.balancer import Balancer
from vicuna_server.gateway.buffering import (
    ALL_LARGE_EVENTS_BYTES,
    ALL_STREAM_STATES_BYTES,
    LARGE_EVENT_BYTES,
    STREAM_STATE_BYTES,
    BufferBudget,
)
from vicuna_server.gateway.catalogue import Catalogue, Endpoint, Model
from vicuna_server.gateway.demand import DemandCounts
from vicuna_server.gateway.holding import Holding
from vicuna_server.gateway.keepalive import open_socket
from vicuna_server.gateway.meter import Attempt
from vicuna_server.gateway.metrics import Metrics
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.request_head import request_headers
from vicuna_server.gateway.response_head import BadResponseError, read_head
from vicuna_server.gateway.settings import GatewaySettings
from vicuna_server.gateway.signing import Signer, signed
from vicuna_server.gateway.usage_queries import QUERY_SECONDS, UsageQueries
from vicuna_server.gateway.whole_response import read_small
from vicuna_server.protocol.counts import Counts

__all__ = ["MODELS_PATH", "Outgoing", "Upstream", "request_headers"]

MODELS_PATH = "/v1/models"
_AT_ONCE = 2**20
"""Bytes of a body that are written at once; a longer one is written in pieces, between which others run."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as a server gets it.

    Attributes:
        path: such as /v1/chat/completions.
        body: the bytes.
        headers: those of the client that the server may see, and the gateway's own.
        request_id: the client's, else the gateway's.
        streams: whether server-sent events are asked for.
        key: name of the API key, for metrics.
        arrived: when the client sent it, by `time.monotonic`.
        affinity: what it prefers an endpoint by.
        continues: id of the kept response that it goes on with; only the servers that may keep it get it.
    """

    path: str
    body: bytes
    headers: Sequence[tuple[str, str]]
    request_id: str
    streams: bool
    key: str
    arrived: float
    affinity: Affinity = NONE
    continues: str = ""


class Upstream:
    """What all requests share: connections, counts and limits; `session` exists while the gateway runs."""

    def __init__(self, settings: GatewaySettings, metrics: Metrics, catalogue: Catalogue) -> None:
        self.settings = settings
        self.metrics = metrics
        self.endpoints = catalogue.endpoints
        self.model = catalogue.model
        self.balancer = Balancer()
        self.demand = DemandCounts()
        self.holding = Holding(catalogue, settings.hold_bounds, self.demand, metrics)
        self.buffers = BufferBudget()
        self.large_events = BufferBudget(ALL_LARGE_EVENTS_BYTES, LARGE_EVENT_BYTES)
        self.stream_states = BufferBudget(ALL_STREAM_STATES_BYTES, STREAM_STATE_BYTES)
        self.accounting = accounting_of(None, Rates())
        self.usage_queries = UsageQueries(self.ask)
        self.session: aiohttp.ClientSession | None = None
        self.signer: Signer | None = None

    async def open(self) -> None:
        """Make the pool of connections."""
        # shorter than the 5 s after which servers close an idle connection
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0, socket_factory=open_socket)
        # no cookies, no proxies from the environment, no decompression: bytes are passed on unchanged
        self.session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("user-agent",),
            max_line_size=2**10,
            max_field_size=2**12,
            max_headers=64,
        )

    async def post(
        self, model: Model, attempt: Attempt, outgoing: "Outgoing", state: bytes | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request; return when the head of the response has arrived. The caller closes the response.

        Args:
            model: whose server gets it.
            attempt: at which server.
            outgoing: the request.
            state: what its stream has come to, empty at its beginning; None: no other server is to go on with it.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: one of `CONNECTION_LOST`.
        """
        assert self.session is not None  # noqa: S101  # requests come after `open`
        timeout = self.timeout(model, streams=outgoing.streams)
        headers = [*signed(self.signer, model, outgoing.path, outgoing.headers), (COUNTING_HEADER, attempt.name)]
        body = outgoing.body
        if state is not None:
            headers.append((STATE_HEADER, str(len(state))))
            body += state
        async with asyncio.timeout(timeout.sock_read):  # a server may send any number of interim responses (1xx)
            return await self.session.post(
                attempt.endpoint.url + outgoing.path,
                data=body if len(body) <= _AT_ONCE else BytesIO(body),
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            )

    async def ask(self, model: Model, attempt: Attempt) -> Counts | None:
        """Return the final counts of an attempt, once its server has them; None where it has none.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: one of `CONNECTION_LOST`.
        """
        async with self._get(model, attempt.endpoint, COUNTS_PATH, (COUNTING_HEADER, attempt.name)) as response:
            try:
                attempt.revision = attempt.revision or read_head(response.status, response.headers).revision
                return Counts.read(await read_small(response.content) or b"") if response.status == 200 else None
            except BadResponseError:
                return None

    async def list_models(self, model: Model, endpoint: Endpoint) -> bytes:
        """Return an endpoint's list of models as it came, 64 KiB at most.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: one of `CONNECTION_LOST`.
            BadResponseError: it is no list.
        """
        async with self._get(model, endpoint, MODELS_PATH) as response:
            head = read_head(response.status, response.headers)
            if head.status != 200 or head.media_type != "application/json":
                raise BadResponseError(f"status {head.status}, content type {head.media_type or 'none'}")
            body = await read_small(response.content)
            if body is None:
                raise BadResponseError("the list is too long")
            return body

    def _get(
        self, model: Model, endpoint: Endpoint, path: str, *headers: tuple[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send a request of the gateway's own."""
        assert self.session is not None  # noqa: S101  # as above
        return self.session.get(
            endpoint.url + path,
            headers=signed(self.signer, model, path, [("accept-encoding", "identity"), *headers], "GET"),
            timeout=aiohttp.ClientTimeout(total=QUERY_SECONDS, sock_connect=self.settings.connect_seconds),
            allow_redirects=False,
        )

    async def close(self) -> None:
        """Close all connections, after the last queries of usage."""
        await self.usage_queries.close()
        if self.session is not None:
            await self.session.close()

    def timeout(self, model: Model, *, streams: bool) -> aiohttp.ClientTimeout:
        """Return the limits of a request: a stream must not be silent, a whole response is until it is complete."""
        silent = self.settings.idle_seconds if streams else model.max_stream_seconds + 30
        return aiohttp.ClientTimeout(total=None, sock_connect=self.settings.connect_seconds, sock_read=silent)
