"""The way to the servers: connections, counts and limits of all requests, and what a request looks like there."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

import aiohttp

from vicuna_contract.names import COUNTING_HEADER, COUNTS_PATH
from vicuna_server.gateway.accounting import accounting_of
from vicuna_server.gateway.answer_head import BadAnswerError, read_head
from vicuna_server.gateway.balancer import Balancer
from vicuna_server.gateway.catalogue import Endpoint, Model
from vicuna_server.gateway.held import Held
from vicuna_server.gateway.meter import Try
from vicuna_server.gateway.metrics import Metrics
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.request_head import request_headers
from vicuna_server.gateway.settings import GatewaySettings
from vicuna_server.gateway.signing import Signer, signed
from vicuna_server.gateway.usage_queries import QUERY_SECONDS, UsageQueries
from vicuna_server.gateway.whole_answer import read_small
from vicuna_server.protocol.counts import Counts

__all__ = ["Outgoing", "Upstream", "request_headers"]

_AT_ONCE = 2**20
"""Bytes of a body that are written without giving others a turn."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it goes to a server.

    Attributes:
        path: such as /v1/chat/completions.
        body: the bytes.
        headers: the client's, as the server may see them.
        request_id: the client's or ours.
        streams: whether server-sent events are asked for.
        key: name of the API key, for metrics.
        arrived: when it came, by `time.monotonic`.
    """

    path: str
    body: bytes
    headers: Sequence[tuple[str, str]]
    request_id: str
    streams: bool
    key: str
    arrived: float


class Upstream:
    """What all requests share: connections, counts, limits; `session` exists while the gateway runs."""

    def __init__(
        self, settings: GatewaySettings, metrics: Metrics, endpoints: Callable[[Model], Sequence[Endpoint]]
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.endpoints = endpoints
        self.balancer = Balancer()
        self.held = Held()
        self.accounting = accounting_of(None, Rates())
        self.usage_queries = UsageQueries(self.ask)
        self.session: aiohttp.ClientSession | None = None
        self.signer: Signer | None = None

    async def open(self) -> None:
        """Make the pool of connections."""
        # servers close a connection that is idle for 5 s: never send a request into that moment
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0)
        # no cookies, no proxies from the environment, no decompression: what comes is what goes on
        self.session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("user-agent",),
            max_line_size=2**10,
            max_field_size=2**12,
            max_headers=64,
        )

    async def post(self, model: Model, one: Try, outgoing: "Outgoing") -> aiohttp.ClientResponse:
        """Send a request; return when the answer's head is there. The caller closes the answer.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: one of `LOST`.
        """
        assert self.session is not None  # noqa: S101  # requests come after `open`
        timeout = self.timeout(model, streams=outgoing.streams)
        async with asyncio.timeout(timeout.sock_read):  # of interim answers there may be any number
            return await self.session.post(
                one.endpoint.url + outgoing.path,
                data=outgoing.body if len(outgoing.body) <= _AT_ONCE else BytesIO(outgoing.body),
                headers=[*signed(self.signer, model, outgoing.path, outgoing.headers), (COUNTING_HEADER, one.name)],
                timeout=timeout,
                allow_redirects=False,
            )

    async def ask(self, model: Model, one: Try) -> Counts | None:
        """Return what a server says of a try, as soon as that is final; None where it does not.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: one of `LOST`.
        """
        assert self.session is not None  # noqa: S101  # as above
        headers = [("accept-encoding", "identity"), (COUNTING_HEADER, one.name)]
        async with self.session.get(
            one.endpoint.url + COUNTS_PATH,
            headers=signed(self.signer, model, COUNTS_PATH, headers, "GET"),
            timeout=aiohttp.ClientTimeout(total=QUERY_SECONDS, sock_connect=self.settings.connect_seconds),
            allow_redirects=False,
        ) as answer:
            try:
                one.revision = one.revision or read_head(answer.status, answer.headers).revision
                return Counts.read(await read_small(answer.content) or b"") if answer.status == 200 else None
            except BadAnswerError:
                return None

    async def close(self) -> None:
        """Close all connections, behind the last questions."""
        await self.usage_queries.close()
        if self.session is not None:
            await self.session.close()

    def timeout(self, model: Model, *, streams: bool) -> aiohttp.ClientTimeout:
        """Streams may be long but not silent; a whole answer is silent until it is done."""
        silent = self.settings.idle_seconds if streams else model.max_stream_seconds + 30
        return aiohttp.ClientTimeout(total=None, sock_connect=self.settings.connect_seconds, sock_read=silent)
