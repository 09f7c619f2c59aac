"""What stands before the applications of the gateway's two ports: connections, addresses, the log of refusals."""

from collections.abc import Callable, Collection
from functools import partial

from starlette.types import ASGIApp

from vicuna_server.asgi.cors import with_origins
from vicuna_server.asgi.draining import CloseWhileDraining, Drain
from vicuna_server.gateway.addresses import Addresses, Proxies
from vicuna_server.gateway.app import create_metrics_app
from vicuna_server.gateway.bounded_config import BoundedConfig
from vicuna_server.gateway.connection import Connection
from vicuna_server.gateway.delivery import Delivery
from vicuna_server.gateway.doors import Doors
from vicuna_server.gateway.gate import Gate
from vicuna_server.gateway.limits import most_connections
from vicuna_server.gateway.refusals import Refusals
from vicuna_server.gateway.upstream import Upstream
from vicuna_server.page import PAGE_PATHS

__all__ = ["Front", "MetricsFront"]

KEEPALIVE_SECONDS = 75
_METRICS_CONNECTIONS = 64
_EVERY = 1.0
"""Seconds between two looks at the keys."""


class Front:
    """The clients' port.

    Args:
        gate: the application, behind its gate.
        upstream: whose settings and counts are used.
    """

    def __init__(self, gate: Gate, upstream: Upstream) -> None:
        settings = upstream.settings
        proxies = Proxies(settings.trusted_proxies)
        self._gate = gate
        self._refused = upstream.metrics.refused
        self._patience = settings.idle_seconds
        opened = with_origins(gate, settings.allowed_origins)
        self._app = Refusals(Addresses(opened, proxies, settings.max_per_address), self._refused)
        self._looked = 0.0
        self.doors = Doors(
            partial(most_connections, settings.max_connections),
            settings.max_per_address,
            proxies.trusted,
            settings.head_seconds,
        )

    def config(self, state: Drain) -> BoundedConfig:
        """Return how the port is served."""
        app = Delivery(CloseWhileDraining(self._app, state), self._patience, PAGE_PATHS)
        return _config(app, self.doors, partial(self._refused, ""), self._gate.knows)

    def look(self, connections: Collection[object], now: float) -> None:
        """Look at connections, and once a second at keys."""
        self.doors.look(connections, now)
        if now - self._looked >= _EVERY:
            self._looked = now
            self._gate.look()


class MetricsFront:
    """The port of the metrics, with the same bounds and few connections."""

    def __init__(self, upstream: Upstream) -> None:
        settings = upstream.settings
        self._app = Delivery(create_metrics_app(upstream), settings.idle_seconds)
        self._doors = Doors(partial(most_connections, _METRICS_CONNECTIONS), head_seconds=settings.head_seconds)
        self.look = self._doors.look

    def config(self) -> BoundedConfig:
        """Return how the port is served."""
        return _config(self._app, self._doors, lambda _: None, lambda _: True)


def _config(
    app: ASGIApp, doors: Doors, refused: Callable[[int], None], knows: Callable[[bytes], bool]
) -> BoundedConfig:
    return BoundedConfig(
        app,
        doors,
        refused,
        knows,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who is believed about addresses is a setting of ours (see `addresses`)
        backlog=4096,  # what the kernel allows by default: who knocks beside a crowd is not turned away
        timeout_keep_alive=KEEPALIVE_SECONDS,
        timeout_graceful_shutdown=None,  # every stream ends by its server's limit
    )
