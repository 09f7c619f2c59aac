"""A server whose new connections wait in the lobby, where the system has what that needs."""

import contextlib
import select
import socket
import time
from collections.abc import Iterator

from vicuna_server.asgi.draining import DrainingServer
from vicuna_server.gateway.bounded_config import BoundedConfig
from vicuna_server.gateway.connection import Connection
from vicuna_server.gateway.lobby import Lobby

__all__ = ["Beside", "Reception"]


class Reception(DrainingServer):
    """Listens by a lobby."""

    config: BoundedConfig
    _lobby: Lobby | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections in."""
        if not hasattr(select, "epoll"):
            await super().startup(sockets)
            return
        await super().startup([])
        self._lobby = Lobby(self.config.doors, self.config.knows, self.config.refused, self._protocol)
        for each in sockets or []:
            self._lobby.listen(each, self.config.backlog)

    async def on_tick(self, counter: int) -> bool:
        """Look at the lobby as well, every 0.1 s."""
        if self._lobby is not None:
            self._lobby.look(time.monotonic())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nobody in any more, and see to those who are there."""
        if self._lobby is not None:
            self._lobby.close()
        await super().shutdown(sockets)

    def _protocol(self, came: bytes) -> Connection:
        return Connection(config=self.config, server_state=self.server_state, app_state={}, came=came)


class Beside(Reception):
    """One that leaves the signals to another one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
