"""Stopping a server without a failed request: it serves for a while, then finishes the running requests."""

import time
from collections.abc import Collection
from types import FrameType
from typing import Any, Protocol

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CloseWhileDraining", "Drain", "DrainingServer", "Watch"]


class Watch(Protocol):
    """Checks a server's connections at intervals."""

    def look(self, connections: Collection[Any], now: float) -> None:
        """Close what is overdue at the moment `now`, by `time.monotonic`."""


class Drain:
    """Whether a server is to stop, and since when.

    Attributes:
        loaded: Whether the server has become ready; before that a signal ends it at once.
        draining_since: When it was told to stop, by `time.monotonic`; None: it was not.
    """

    def __init__(self, *, loaded: bool) -> None:
        self.loaded = loaded
        self.draining_since: float | None = None

    @property
    def draining(self) -> bool:
        """Whether the server has been told to stop."""
        return self.draining_since is not None

    def begin_drain(self) -> None:
        """Record that the server was told to stop, and when."""
        if self.draining_since is None:
            self.draining_since = time.monotonic()


class CloseWhileDraining:
    """Pure ASGI: every response says `Connection: close` once the server has been told to stop."""

    def __init__(self, app: ASGIApp, state: Drain) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._state.draining:
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_closing)


class DrainingServer(uvicorn.Server):
    """Uvicorn that serves on for `drain_seconds` after the first signal; a second signal ends this time.

    Idle connections stay open until then, and their next response says `Connection: close`. To close them at once
    would lose requests that are on their way.

    Args:
        config: Uvicorn's own.
        state: Records the signals.
        drain_seconds: How long requests are served after the first signal.
        watch: Closes connections without progress; called every 0.1 s.
    """

    def __init__(self, config: uvicorn.Config, state: Drain, drain_seconds: float, watch: Watch | None = None) -> None:
        super().__init__(config)
        self._watch = watch
        self._drain_seconds = drain_seconds
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """React to SIGTERM and SIGINT; uvicorn does not record them, so that the process ends with exit code 0."""
        del sig, frame
        if self._state.draining and self.should_exit:
            self.force_exit = True
        elif self._state.draining or not self._state.loaded:
            self._state.begin_drain()
            self.should_exit = True
        else:
            self._state.begin_drain()

    async def on_tick(self, counter: int) -> bool:
        """Check every 0.1 s whether `drain_seconds` are over, and check the connections."""
        if self._watch is not None:
            self._watch.look(self.server_state.connections, time.monotonic())
        since = self._state.draining_since
        if since is not None and time.monotonic() >= since + self._drain_seconds:
            self.should_exit = True
        return await super().on_tick(counter)
