"""How a run is asked to end: by SIGTERM or SIGINT, or by a thread of its own that finds it to be in vain."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from vicuna_server.errors import InterruptedRunError, VicunaError

__all__ = ["Cancellation", "stopping_on_signals", "watched"]

_WATCH_SECONDS = 0.2

_Result = TypeVar("_Result")


class Cancellation:
    """Ends a run at its next step. Any thread may use it.

    Args:
        stop: set by a signal.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._error: VicunaError | None = None

    def cancel(self, error: VicunaError) -> None:
        """Let the run end with `error` at its next step."""
        self._error = error
        self._stop.set()

    def check(self) -> None:
        """Do nothing while the run may go on.

        Raises:
            InterruptedRunError: a signal came.
            VicunaError: what the run was cancelled with.
        """
        if self._stop.is_set():
            raise self._error or InterruptedRunError("Interrupted", "a signal ended the run; start it again")

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the run.

        Raises:
            VicunaError: as `check`.
        """
        self._stop.wait(seconds)
        self.check()


@contextmanager
def stopping_on_signals() -> Iterator[threading.Event]:
    """Give an event that is set once a signal asks the run to end; the old handlers come back afterwards."""
    stop = threading.Event()
    wanted = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watched(work: Callable[[], _Result], cancellation: Cancellation) -> _Result:
    """Run `work` in a thread that is left alone once the run is to end: a request cannot be stopped from outside.

    Raises:
        VicunaError: as `Cancellation.check`, and whatever `work` raises.
    """
    results: list[_Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            failures.append(error)

    thread = threading.Thread(target=run, name="watched", daemon=True)
    thread.start()
    thread.join(_WATCH_SECONDS)
    while thread.is_alive():
        cancellation.check()
        thread.join(_WATCH_SECONDS)
    if failures:
        raise failures[0]
    return results[0]
