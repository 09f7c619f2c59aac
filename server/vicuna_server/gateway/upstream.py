"""The way to the servers: connections, counts and limits of all requests, and what a request looks like there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from vicuna_server.gateway.balancer import Balancer
from vicuna_server.gateway.catalogue import Endpoint, Model
from vicuna_server.gateway.metrics import Metrics
from vicuna_server.gateway.settings import GatewaySettings
from vicuna_server.gateway.signing import Signer

__all__ = ["Outgoing", "Upstream", "answer_headers", "request_headers"]

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "host", "content-length"}
)
_OWN_REQUEST_HEADERS = frozenset({"authorization", "cookie", "expect", "accept-encoding"})
_OWN_ANSWER_HEADERS = frozenset({"date", "server"})


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
        self.session: aiohttp.ClientSession | None = None
        self.signer: Signer | None = None

    async def open(self) -> None:
        """Make the pool of connections."""
        # servers close a connection that is idle for 5 s: never send a request into that moment
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0)
        # no cookies, no proxies from the environment, no decompression: what comes is what goes on
        self.session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )

    async def close(self) -> None:
        """Close all connections."""
        if self.session is not None:
            await self.session.close()

    def timeout(self, model: Model, *, streams: bool) -> aiohttp.ClientTimeout:
        """Streams may be long but not silent; a whole answer is silent until it is done."""
        silent = self.settings.idle_seconds if streams else model.max_stream_seconds + 30
        return aiohttp.ClientTimeout(total=None, sock_connect=self.settings.connect_seconds, sock_read=silent)


def request_headers(raw: Sequence[tuple[bytes, bytes]], request_id: str) -> list[tuple[str, str]]:
    """Return the client's headers that a server may see: not its key, nor what belongs to the connection."""
    without = _HOP_BY_HOP | _OWN_REQUEST_HEADERS | {"x-request-id"}
    kept = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
    return [pair for pair in kept if pair[0].lower() not in without] + [("x-request-id", request_id)]


def answer_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return a server's headers that the client gets, by name in lower case."""
    without = _HOP_BY_HOP | _OWN_ANSWER_HEADERS
    return {name.lower(): value for name, value in headers.items() if name.lower() not in without}
