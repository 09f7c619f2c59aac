"""All that a run which takes long is held by, made once by its command."""

import threading
import time
from collections.abc import Callable

from vicuna_server.run.cancellation import Cancellation
from vicuna_server.run.meter import Meter
from vicuna_server.run.reporter import Recording, Reporter
from vicuna_server.run.throttle import Throttle

__all__ = ["Control"]


class Control:
    """What a run hands to its parts; each takes only what it needs of it.

    Args:
        reporter: gets counts, warnings and notes.
        stop: set by a signal.
        rate: most bytes a second; None for as fast as it goes.
        clock: seconds, monotonic.

    Attributes:
        cancellation: how the run is asked to end.
        reporter: gets what there is to say; keeps the warnings.
        meter: how far it is.
        throttle: how fast it may go.
    """

    def __init__(
        self,
        reporter: Reporter,
        stop: threading.Event,
        rate: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cancellation = Cancellation(stop)
        self.reporter = Recording(reporter)
        self.meter = Meter(self.reporter, clock)
        self.throttle = Throttle(rate, self.cancellation, self.meter.refresh, clock)

    def begin(self, total: int) -> None:
        """Start counting towards `total` bytes."""
        self.throttle.restart()
        self.meter.begin(total)

    def advance(self, count: int) -> None:
        """Count bytes that came from a source as done; sleep as the rate asks.

        Raises:
            VicunaError: as `Cancellation.check`.
        """
        self.meter.count(count)
        self.throttle.pace(count)
