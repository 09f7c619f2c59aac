"""SIGTERM and SIGINT end a run between two pieces of work."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["stopping_on_signals"]


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
