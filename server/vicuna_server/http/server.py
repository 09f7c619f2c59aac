"""Runs the application: binds the port first, loads in the background, drains on SIGTERM."""

import asyncio
import errno
import logging
import socket
import time
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from vicuna_server.engine import Engine
from vicuna_server.errors import UsageError, VicunaError
from vicuna_server.http.generation import WRITE_GRACE
from vicuna_server.http.lifecycle import DRAIN_SECONDS, Lifecycle

__all__ = ["bind", "serve"]

logger = logging.getLogger(__name__)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        UsageError: `PortInUse`, or an address that cannot be listened on.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} on {host} is in use; stop what listens there or choose another with --port",
                reason="PortInUse",
            ) from error
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose others with --host and --port",
            reason="AddressUnusable",
        ) from error


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    engine: Engine,
    lifecycle: Lifecycle,
    max_stream_seconds: float,
    drain_seconds: float = DRAIN_SECONDS,
) -> None:
    """Serve until told to stop, then drain: new requests for `drain_seconds`, running streams to their end.

    Raises:
        VicunaError: The model could not be loaded or failed its smoke test.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Streams end by themselves within their limit; what is left after that is stuck.
        timeout_graceful_shutdown=int(max_stream_seconds + WRITE_GRACE) + 1,
    )
    server = _DrainingServer(config, lifecycle, drain_seconds)
    bringing_up = asyncio.create_task(_bring_up(engine, lifecycle, server))
    host, port = listener.getsockname()[:2]
    logger.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    try:
        await server.serve(sockets=[listener])
    finally:
        bringing_up.cancel()
        await engine.close()
    if lifecycle.failure is not None:
        raise lifecycle.failure


async def _bring_up(engine: Engine, lifecycle: Lifecycle, server: uvicorn.Server) -> None:
    await lifecycle.bring_up(engine)
    if isinstance(lifecycle.failure, VicunaError):
        server.should_exit = True


class _DrainingServer(uvicorn.Server):
    """Uvicorn that goes on serving for a moment after the first signal; a second one ends the moment."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_seconds: float) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds
        self._lifecycle = lifecycle
        self._idle_closed = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """React to SIGTERM and SIGINT; not remembered, so that the process ends with exit code 0."""
        del sig, frame
        if self._lifecycle.draining and self.should_exit:
            self.force_exit = True
        elif self._lifecycle.draining or not self._lifecycle.loaded:
            self._lifecycle.begin_drain()
            self.should_exit = True
        else:
            self._lifecycle.begin_drain()

    async def on_tick(self, counter: int) -> bool:
        """Look every 0.1 s whether the grace after a signal is over."""
        since = self._lifecycle.draining_since
        if since is not None and not self._idle_closed:
            self._idle_closed = True
            self._close_idle()
        if since is not None and time.monotonic() >= since + self._drain_seconds:
            self.should_exit = True
        return await super().on_tick(counter)

    def _close_idle(self) -> None:
        for connection in list(self.server_state.connections):
            # A connection without a first request is about to bring one; it is served and closed behind it.
            if getattr(connection, "cycle", None) is not None:
                connection.shutdown()
