"""Whether requests under way get on: tokens come, or the engine's own counters move."""

import time
from collections.abc import Callable

__all__ = ["Progress"]


class Progress:
    """Knows for how long nothing has moved while requests were under way.

    Args:
        clock: Seconds that only grow.

    Attributes:
        running: Requests under way.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved = clock()
        self._waited = 0.0  # the silence when the last request ended
        self._counters: tuple[bytes, ...] | None = None
        self.running = 0

    def begin(self) -> None:
        """A request goes to the engine."""
        if not self.running:
            self._moved = self._clock() - self._waited  # in between nothing was to be expected
        self.running += 1

    def end(self) -> None:
        """A request is over, however it ended: one that was given up tells nothing of the engine."""
        self._waited = self.silence
        self.running -= 1

    def move(self) -> None:
        """Something has come."""
        self._moved = self._clock()
        self._waited = 0.0
        self._counters = None

    def compare(self, counters: tuple[bytes, ...]) -> None:
        """Take in the engine's counters; other values than before are progress."""
        if self._counters is not None and counters != self._counters:
            self.move()
        self._counters = counters

    @property
    def silence(self) -> float:
        """Seconds since anything moved; 0 where nothing is under way."""
        return self._clock() - self._moved if self.running else 0.0
