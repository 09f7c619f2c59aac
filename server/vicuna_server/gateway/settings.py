"""Limits of one gateway."""

from dataclasses import dataclass

__all__ = ["GatewaySettings"]


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Limits; all have sensible defaults.

    Attributes:
        max_body_bytes: larger request bodies are refused with 413.
        body_seconds: a body that takes longer to arrive is refused with 408.
        max_requests: more at once are refused with 503.
        idle_seconds: a stream that is silent for so long is lost; servers send a comment every 15 s.
        connect_seconds: an endpoint that takes no connection for so long is passed over.
        max_tries: endpoints that one request is sent to at most.
    """

    max_body_bytes: int = 4 * 2**20
    body_seconds: float = 30.0
    max_requests: int = 2000
    idle_seconds: float = 60.0
    connect_seconds: float = 3.0
    max_tries: int = 3
