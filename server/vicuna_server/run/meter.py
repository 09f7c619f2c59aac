"""Counting the bytes of a run, and reporting the count."""

import threading
import time
from collections.abc import Callable

from vicuna_server.run.reporter import Reporter

__all__ = ["Meter"]

_INTERVAL_SECONDS = 2.0


class Meter:
    """Counts bytes and reports at most every 2 s, and at the end. Several threads may count at once.

    Args:
        reporter: gets the counts.
        clock: seconds, monotonic.
    """

    def __init__(self, reporter: Reporter, clock: Callable[[], float] = time.monotonic) -> None:
        self._reporter = reporter
        self._clock = clock
        self._done = 0
        self._total = 0
        self._started = clock()
        self._reported: float | None = None
        self._lock = threading.Lock()

    def begin(self, total: int) -> None:
        """Start counting towards `total` bytes."""
        with self._lock:
            self._done, self._total = 0, total
            self._started = self._clock()
            self._report(force=True)

    def grow(self, count: int) -> None:
        """Add `count` bytes to the total."""
        with self._lock:
            self._total += count

    def count(self, count: int) -> None:
        """Count bytes as done."""
        with self._lock:
            self._done += count
            self._report(force=self._done >= self._total)

    def refresh(self) -> None:
        """Report, if that is due."""
        with self._lock:
            self._report(force=False)

    def _report(self, *, force: bool) -> None:
        now = self._clock()
        recent = self._reported is not None and now - self._reported < _INTERVAL_SECONDS
        if not self._total or (recent and not force):
            return
        self._reported = now
        elapsed = now - self._started
        self._reporter.progress(self._done, self._total, int(self._done / elapsed) if elapsed > 0 else 0)
