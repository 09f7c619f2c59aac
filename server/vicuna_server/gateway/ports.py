"""The gateway's two ports: the middleware before their applications, and how uvicorn serves them."""

from collections.abc import Callable, Collection
from functools import partial

from starlette.types import ASGIApp

from vicuna_server.asgi.cors import with_origins
from vicuna_server.asgi.draining import CloseWhileDraining, Drain
from vicuna_server.gateway.addresses import Addresses, Proxies
from vicuna_server.gateway.app import create_metrics_app
from vicuna_server.gateway.authentication import Authentication
from vicuna_server.gateway.connection import Connection
from vicuna_server.gateway.connection_limits import ConnectionLimits
from vicuna_server.gateway.delivery import Delivery
from vicuna_server.gateway.limits import most_connections
from vicuna_server.gateway.port_config import PortConfig
from vicuna_server.gateway.refusals import Refusals
from vicuna_server.gateway.upstream import Upstream
from vicuna_server.page import PAGE_PATHS

__all__ = ["ClientPort", "MetricsPort"]

KEEPALIVE_SECONDS = 75
_METRICS_CONNECTIONS = 64
_EVERY = 1.0
"""Seconds between two checks of the keys."""


class ClientPort:
    """The clients' port.

    Args:
        authentication: the application, behind the check of keys.
        upstream: has the settings and metrics.
    """

    def __init__(self, authentication: Authentication, upstream: Upstream) -> None:
        settings = upstream.settings
        proxies = Proxies(settings.trusted_proxies)
        self._authentication = authentication
        self._on_refused = upstream.metrics.refused
        self._patience = settings.idle_seconds
        opened = with_origins(authentication, settings.allowed_origins)
        self._app = Refusals(Addresses(opened, proxies, settings.max_per_address), self._on_refused)
        self._looked = 0.0
        self.limits = ConnectionLimits(
            partial(most_connections, settings.max_connections),
            settings.max_per_address,
            proxies.trusted,
            settings.head_seconds,
        )

    def config(self, state: Drain) -> PortConfig:
        """Return uvicorn's settings of the port."""
        app = Delivery(CloseWhileDraining(self._app, state), self._patience, PAGE_PATHS)
        return _config(app, self.limits, partial(self._on_refused, ""), self._authentication.has_valid_key)

    def look(self, connections: Collection[object], now: float) -> None:
        """Check the connections, and once a second the keys."""
        self.limits.look(connections, now)
        if now - self._looked >= _EVERY:
            self._looked = now
            self._authentication.look()


class MetricsPort:
    """The port of the metrics, with the same limits and few connections."""

    def __init__(self, upstream: Upstream) -> None:
        settings = upstream.settings
        self._app = Delivery(create_metrics_app(upstream), settings.idle_seconds)
        self._limits = ConnectionLimits(
            partial(most_connections, _METRICS_CONNECTIONS), head_seconds=settings.head_seconds
        )
        self.look = self._limits.look

    def config(self) -> PortConfig:
        """Return uvicorn's settings of the port."""
        return _config(self._app, self._limits, lambda _: None, lambda _: True)


def _config(
    app: ASGIApp, limits: ConnectionLimits, on_refused: Callable[[int], None], has_valid_key: Callable[[bytes], bool]
) -> PortConfig:
    return PortConfig(
        app,
        limits,
        on_refused,
        has_valid_key,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `addresses` reads X-Forwarded-For, from trusted proxies only
        backlog=4096,  # the kernel's default maximum, so that a flood does not keep clients out
        timeout_keep_alive=KEEPALIVE_SECONDS,
        timeout_graceful_shutdown=None,  # every stream ends by its server's limit
    )
