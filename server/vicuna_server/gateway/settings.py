"""Limits of one gateway."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from vicuna_server.asgi.connections import HEAD_SECONDS
from vicuna_server.gateway.limits import body_memory

__all__ = ["GatewaySettings", "HoldBounds"]


class HoldBounds(NamedTuple):
    """What may be held at once.

    Attributes:
        each: requests of one model and API key.
        all: requests of all models and keys.
        body_bytes: of all their bodies.
        seconds: how long a request waits; one for a stream waits for `Model.max_stream_seconds`. 0: none is held.
        silent_seconds: after which one for a stream gets a comment, and so on.
    """

    each: int
    all: int
    body_bytes: int
    seconds: float
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Limits; all have sensible defaults.

    Attributes:
        max_body_bytes: larger request bodies are refused with 413.
        body_seconds: a body that takes longer to arrive is refused with 408.
        head_seconds: a head that takes longer to arrive is refused with 408.
        max_requests: more at once are refused with 503.
        max_body_memory: bytes of the bodies of all requests under way; one key may have half of them.
        max_connections: of clients at once; the oldest idle connection makes room for a new one.
        max_per_address: connections of one address at once, or, behind a trusted proxy, requests; 0: any number.
        trusted_proxies: whose X-Forwarded-For is believed.
        allowed_origins: origins whose pages may use the API from a browser; `*`: all.
        gets_per_minute: requests other than POST of one key, over all replicas.
        idle_seconds: after which a silent stream counts as lost; servers send a comment every 15 s. See `silence` too.
        connect_seconds: after which an endpoint that accepts no connection counts as failed.
        hold_seconds: how long a request waits until a server of its model is ready; 0: it is refused at once.
        max_held: requests of one model and key that wait at once.
        hold_silent_seconds: after which a client that waits for a stream gets its head and a comment.
        session_header: header by which a client names a session, whose requests go to one endpoint; empty: none.
        max_tries: endpoints that one request is sent to at most.
    """

    max_body_bytes: int = 4 * 2**20
    body_seconds: float = 30.0
    head_seconds: float = HEAD_SECONDS
    max_requests: int = 2000
    max_body_memory: int = field(default_factory=body_memory)
    max_connections: int = 3000
    max_per_address: int = 0
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    gets_per_minute: int = 1200
    idle_seconds: float = 60.0
    connect_seconds: float = 3.0
    hold_seconds: float = 50.0
    max_held: int = 50
    hold_silent_seconds: float = 10.0
    session_header: str = "x-session-id"
    max_tries: int = 3

    @property
    def hold_bounds(self) -> HoldBounds:
        """What may be held; requests that wait leave half of the capacity to the others."""
        return HoldBounds(
            each=self.max_held,
            all=max(1, self.max_requests // 2),
            body_bytes=self.max_body_memory // 2,
            seconds=self.hold_seconds,
            silent_seconds=self.hold_silent_seconds,
        )
