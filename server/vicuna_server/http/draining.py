"""Stopping a server without a failed request: it goes on for a moment, then finishes what is under way."""

import time
from types import FrameType
from typing import Protocol

import uvicorn

from vicuna_server.http.connections import ConnectionWatch

__all__ = ["DrainState", "DrainingServer"]


class DrainState(Protocol):
    """What a server of ours knows of its own end."""

    draining_since: float | None
    """When it was told to stop, by `time.monotonic`."""

    @property
    def loaded(self) -> bool:
        """Whether it has ever answered requests."""

    @property
    def draining(self) -> bool:
        """Whether it was told to stop."""

    def begin_drain(self) -> None:
        """Note that it was told to stop."""


class DrainingServer(uvicorn.Server):
    """Uvicorn that goes on serving for a moment after the first signal; a second one ends the moment.

    Idle connections stay open until then: what arrives on one is answered with `Connection: close`. To close them at
    once would meet requests that are on their way, and those would be lost.

    Args:
        config: Uvicorn's own.
        state: Told of signals.
        drain_seconds: Length of the moment.
        watch: Closes connections that do not get on.
    """

    def __init__(
        self, config: uvicorn.Config, state: DrainState, drain_seconds: float, watch: ConnectionWatch | None = None
    ) -> None:
        super().__init__(config)
        self._watch = watch
        self._drain_seconds = drain_seconds
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """React to SIGTERM and SIGINT; not remembered, so that the process ends with exit code 0."""
        del sig, frame
        if self._state.draining and self.should_exit:
            self.force_exit = True
        elif self._state.draining or not self._state.loaded:
            self._state.begin_drain()
            self.should_exit = True
        else:
            self._state.begin_drain()

    async def on_tick(self, counter: int) -> bool:
        """Look every 0.1 s whether the grace after a signal is over, and at the connections."""
        if self._watch is not None:
            self._watch.look(self.server_state.connections, time.monotonic())
        since = self._state.draining_since
        if since is not None and time.monotonic() >= since + self._drain_seconds:
            self.should_exit = True
        return await super().on_tick(counter)
