"""The uvicorn server of a port, whose new connections go through an `Acceptor` where the system has epoll."""

import contextlib
import select
import socket
import time
from collections.abc import Iterator

from vicuna_server.asgi.draining import DrainingServer
from vicuna_server.gateway.acceptor import Acceptor
from vicuna_server.gateway.connection import Connection
from vicuna_server.gateway.port_config import PortConfig

__all__ = ["EmbeddedServer", "GatewayServer"]


class GatewayServer(DrainingServer):
    """Accepts connections by an `Acceptor`."""

    config: PortConfig
    _acceptor: Acceptor | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections."""
        if not hasattr(select, "epoll"):
            await super().startup(sockets)
            return
        await super().startup([])
        self._acceptor = Acceptor(self.config.limits, self.config.has_valid_key, self.config.on_refused, self._protocol)
        for each in sockets or []:
            self._acceptor.listen(each, self.config.backlog)

    async def on_tick(self, counter: int) -> bool:
        """Check the acceptor as well, every 0.1 s."""
        if self._acceptor is not None:
            self._acceptor.look(time.monotonic())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and drain the open connections."""
        if self._acceptor is not None:
            self._acceptor.close()
        await super().shutdown(sockets)

    def _protocol(self, received: bytes) -> Connection:
        return Connection(config=self.config, server_state=self.server_state, app_state={}, received=received)


class EmbeddedServer(GatewayServer):
    """A second server of a process: it leaves the signals to the first one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
