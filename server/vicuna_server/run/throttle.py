"""Holding what a run reads to a rate, so that others can use the disk and the network too."""

import threading
import time
from collections.abc import Callable

from vicuna_server.run.cancellation import Cancellation

__all__ = ["Throttle"]

_MOST_PAUSE_SECONDS = 2.0
_MOST_CREDIT_SECONDS = 1.0


class Throttle:
    """Sleeps as long as a rate asks. Several threads share one rate.

    Args:
        rate: bytes a second; None for as fast as it goes.
        cancellation: ends the sleep.
        on_wait: called every 2 s of a longer sleep.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        rate: int | None,
        cancellation: Cancellation,
        on_wait: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._cancellation = cancellation
        self._on_wait = on_wait
        self._clock = clock
        self._paced_until = clock()
        self._lock = threading.Lock()

    def restart(self) -> None:
        """Forget the time before: no bytes are to be made up for."""
        with self._lock:
            self._paced_until = self._clock()

    def pace(self, count: int) -> None:
        """Sleep as long as the rate asks for `count` bytes that came from a source.

        Time in which fewer came than might have is made up for, but by one second at most.

        Raises:
            VicunaError: as `Cancellation.check`.
        """
        if self._rate:
            with self._lock:
                until = max(self._paced_until, self._clock() - _MOST_CREDIT_SECONDS) + count / self._rate
                self._paced_until = until
            while (ahead := until - self._clock()) > 0:
                self._cancellation.pause(min(ahead, _MOST_PAUSE_SECONDS))
                self._on_wait()
        self._cancellation.check()
