"""A run ends when it is asked to, goes no faster than it may, and says how far it is."""

import io
import json
import os
import threading
from contextlib import nullcontext

import pytest

from vicuna_server.errors import InterruptedRunError, OutOfSpaceError
from vicuna_server.run.cancellation import Cancellation
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import JsonLines, Silent


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class _Stop(threading.Event):
    """Waiting moves the clock instead."""

    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self._clock = clock
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0)
        self._clock.now += timeout or 0
        return self.is_set()


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_progress_comes_at_once_then_at_most_every_two_seconds_and_at_the_end() -> None:
    clock, stream = _Clock(), io.StringIO()
    control = Control(JsonLines(stream), _Stop(clock), clock=clock)
    control.begin(100)
    for _ in range(10):
        clock.now += 0.5
        control.advance(10)
    done = [line["bytesDone"] for line in _lines(stream)]
    assert done == [0, 40, 80, 100]
    assert _lines(stream)[1] == {"event": "progress", "bytesDone": 40, "bytesTotal": 100, "bytesPerSecond": 20}


def test_a_rate_is_held_and_reported_while_waiting() -> None:
    clock, stream = _Clock(), io.StringIO()
    stop = _Stop(clock)
    control = Control(JsonLines(stream), stop, rate=10, clock=clock)
    control.begin(100)
    control.advance(50)
    assert clock.now == 105
    assert stop.waits == [2, 2, 1]
    assert [line["bytesDone"] for line in _lines(stream)] == [0, 50, 50]


def test_a_signal_ends_the_run_at_the_next_step() -> None:
    stop = threading.Event()
    control = Control(JsonLines(io.StringIO()), stop)
    control.begin(10)
    stop.set()
    with pytest.raises(InterruptedRunError):
        control.advance(1)


def test_a_thread_may_end_the_run_with_an_error_of_its_own() -> None:
    cancellation = Cancellation(threading.Event())
    cancellation.check()
    cancellation.cancel(OutOfSpaceError("OutOfSpace", "no room"))
    with pytest.raises(OutOfSpaceError):
        cancellation.pause(1e9)


def test_warnings_are_kept_for_the_last_word() -> None:
    reporter = Control(Silent(), threading.Event()).reporter
    reporter.warning("Odd", "this is odd")
    reporter.note("done", "that is done")
    assert reporter.warnings == (("Odd", "this is odd"),)


def test_quiet_leaves_only_the_last_line() -> None:
    stream = io.StringIO()
    reporter = JsonLines(stream, quiet=True)
    reporter.progress(1, 2, 3)
    reporter.done("0123", "/models/0123")
    assert _lines(stream) == [{"event": "done", "artifactID": "0123", "path": "/models/0123"}]


@pytest.mark.parametrize("outlives", [True, False])
def test_a_reader_who_leaves_ends_only_what_was_for_him(outlives: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone, open(os.devnull, "w") as nowhere:
        lines = JsonLines(gone, outlives_reader=outlives)
        with nullcontext() if outlives else pytest.raises(BrokenPipeError):
            lines.note("one", "")
            lines.note("two", "")
        os.dup2(nowhere.fileno(), gone.fileno())  # what is left in it must go somewhere when it is closed
