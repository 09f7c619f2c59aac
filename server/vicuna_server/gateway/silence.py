"""Notices a server that vanishes without a word, as with its node: no connection breaks.

Servers send a comment in a stream that has been silent for 15 s. So one that lives and drains is never silent for
`SILENT_SECONDS`. One that is, and that its cluster does not count as ready any more, is lost.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

__all__ = ["LOOK_SECONDS", "SILENT_SECONDS", "Silence", "Timer", "Timers"]

SILENT_SECONDS = 20.0
"""The 15 s after which servers send a comment, and 5 s for a busy machine."""
LOOK_SECONDS = 1.0
"""Between two looks at a server that is silent for longer."""


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None:
        """Do not call it."""


class Timers(Protocol):
    """What is needed of an event loop."""

    def time(self) -> float:
        """Return seconds that only grow."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call something after so many seconds."""


class Silence:
    """Of one server at a time; costs each piece of a stream two assignments, and its timer comes once in 20 s.

    Args:
        is_lost: asked once a second while the server is silent for long; whether it is to be left.
        leave: called once `is_lost` says so.
        timers: the event loop; None: the running one.
    """

    def __init__(self, is_lost: Callable[[], bool], leave: Callable[[], None], timers: Timers | None = None) -> None:
        self._is_lost = is_lost
        self._leave = leave
        self._timers: Timers = asyncio.get_running_loop() if timers is None else timers
        self._since = math.inf
        self._timer: Timer = self._timers.call_later(SILENT_SECONDS, self._look)

    def begin(self) -> None:
        """Note that something is awaited of the server from now on."""
        self._since = self._timers.time()

    def end(self) -> None:
        """Note that it has come."""
        self._since = math.inf

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        silent = self._timers.time() - self._since
        if silent >= SILENT_SECONDS and self._is_lost():
            self._leave()
            return
        # one that begins after this look has not been silent for long before the next one
        left = min(SILENT_SECONDS, SILENT_SECONDS - silent)
        self._timer = self._timers.call_later(max(LOOK_SECONDS, left), self._look)
