"""Runs the application on a port that is bound already: loads in the background, drains on SIGTERM."""

import asyncio
import logging
import socket

import uvicorn
from starlette.types import ASGIApp

from vicuna_server.api.delivery import WRITE_GRACE
from vicuna_server.api.lifecycle import DRAIN_SECONDS, Lifecycle
from vicuna_server.asgi.connections import HEAD_SECONDS, KEEP_ALIVE_SECONDS, ConnectionWatch
from vicuna_server.asgi.draining import DrainingServer
from vicuna_server.asgi.heads import HEAD_BYTES, BoundedH11
from vicuna_server.engine import Engine
from vicuna_server.errors import VicunaError

__all__ = ["serve"]

BODY_GRACE = 60.0
"""Seconds for a body to arrive and to be read."""

logger = logging.getLogger(__name__)


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    engine: Engine,
    lifecycle: Lifecycle,
    max_stream_seconds: float,
    drain_seconds: float = DRAIN_SECONDS,
    keep_alive_seconds: int = KEEP_ALIVE_SECONDS,
) -> None:
    """Serve until a signal, then drain: serve new requests for `drain_seconds`, then running streams to their end.

    Raises:
        VicunaError: The model could not be loaded or failed its smoke test.
    """
    config = uvicorn.Config(
        app,
        http=BoundedH11,
        h11_max_incomplete_event_size=HEAD_BYTES,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the client's address must be the socket's (see `signed`)
        timeout_keep_alive=keep_alive_seconds,
        # Streams end by themselves within their limit; a connection left after that is stuck.
        timeout_graceful_shutdown=int(max_stream_seconds + WRITE_GRACE) + 1,
    )
    watch = ConnectionWatch(HEAD_SECONDS, max_stream_seconds + WRITE_GRACE + BODY_GRACE)
    server = DrainingServer(config, lifecycle, drain_seconds, watch)
    starting = asyncio.create_task(_start_up(engine, lifecycle, server))
    host, port = listener.getsockname()[:2]
    logger.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    try:
        await server.serve(sockets=[listener])
    finally:
        starting.cancel()
        await engine.close()
    if lifecycle.failure is not None:
        raise lifecycle.failure


async def _start_up(engine: Engine, lifecycle: Lifecycle, server: uvicorn.Server) -> None:
    await lifecycle.start_up(engine)
    if isinstance(lifecycle.failure, VicunaError):
        server.should_exit = True
