"""Telling how far a merge is: JSON lines for programs, a bar for people; and holding it to a rate."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from vicuna_contract import events
from vicuna_server.errors import InterruptedRunError, VicunaError

__all__ = ["Bar", "JsonLines", "Progress", "Reporter", "Silent", "make_reporter"]

_INTERVAL_SECONDS = 2.0


class Reporter(Protocol):
    """Where progress goes."""

    def warning(self, reason: str, message: str) -> None:
        """Say what is odd but stops nothing."""

    def progress(self, done: int, total: int, per_second: int) -> None:
        """Say how many bytes of how many are done."""

    def note(self, event: str, text: str, **fields: object) -> None:
        """Say what else is worth knowing: the event and its fields to a program, the text to a person."""

    def done(self, artifact_id: str, path: str) -> None:
        """Say that the artifact is there."""


class JsonLines:
    """One JSON object per line on standard output; the last one is always written.

    Args:
        stream: where they go.
        quiet: no progress.
        outlives_reader: go on, silently, where nobody reads any more; else that is a BrokenPipeError.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False, outlives_reader: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._outlives_reader = outlives_reader

    def progress(self, done: int, total: int, per_second: int) -> None:
        """Write one progress line."""
        if not self._quiet:
            self._write(events.progress(done, total, per_second))

    def warning(self, reason: str, message: str) -> None:
        """Write one warning line, quiet or not."""
        self._write(events.warning(reason, message))

    def note(self, event: str, text: str, **fields: object) -> None:  # noqa: ARG002 - the fields say it
        """Write one line, quiet or not."""
        self._write({"event": event, **fields})

    def done(self, artifact_id: str, path: str) -> None:
        """Write the last line."""
        self._write(events.done(artifact_id, path))

    def _write(self, event: dict[str, object]) -> None:
        try:
            print(json.dumps(event), file=self._stream, flush=True)
        except BrokenPipeError:
            if not self._outlives_reader:
                raise
            # What is left in the stream goes nowhere, at exit too.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


class Silent:
    """Tells nobody."""

    def progress(self, done: int, total: int, per_second: int) -> None:
        """Do nothing."""

    def warning(self, reason: str, message: str) -> None:
        """Do nothing."""

    def note(self, event: str, text: str, **fields: object) -> None:
        """Do nothing."""

    def done(self, artifact_id: str, path: str) -> None:
        """Do nothing."""


class Bar:
    """A progress bar for a terminal.

    Args:
        label: what is being done.
    """

    def __init__(self, label: str = "merging") -> None:
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(label, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._task = self._bar.add_task("merge", total=None)

    def progress(self, done: int, total: int, per_second: int) -> None:  # noqa: ARG002 - rich has its own rate
        """Move the bar."""
        self._bar.start()
        self._bar.update(self._task, completed=done, total=total)

    def warning(self, reason: str, message: str) -> None:
        """Print a warning above the bar."""
        self._bar.console.print(f"warning: {reason}: {message}", highlight=False, markup=False)

    def note(self, event: str, text: str, **fields: object) -> None:  # noqa: ARG002 - the text says it
        """Print the text above the bar."""
        self._bar.console.print(text, highlight=False, markup=False)

    def done(self, artifact_id: str, path: str) -> None:
        """Close the bar and name the artifact."""
        self.close()
        print(f"artifact {artifact_id} in {path}")

    def close(self) -> None:
        """Give the terminal back."""
        self._bar.stop()


def make_reporter(*, quiet: bool) -> "JsonLines | Bar":
    """Choose by whether standard output is a terminal."""
    if sys.stdout.isatty() and not quiet:
        return Bar()
    return JsonLines(sys.stdout, quiet=quiet, outlives_reader=True)


class Progress:
    """Counts bytes, reports at most every 2 s, waits where a rate is set, and ends the run when asked to.

    Several threads may count at once.

    Args:
        reporter: gets the counts.
        stop: set by a signal.
        most_per_second: bytes a second, None for as fast as it goes.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        reporter: Reporter,
        stop: threading.Event,
        most_per_second: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reporter = reporter
        self._stop = stop
        self._rate = most_per_second
        self._clock = clock
        self._done = 0
        self._total = 0
        self._started = clock()
        self._paced_until = self._started
        self._reported: float | None = None
        self._error: VicunaError | None = None
        self._warnings: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def begin(self, total: int) -> None:
        """Start counting towards `total` bytes."""
        with self._lock:
            self._done, self._total = 0, total
            self._started = self._paced_until = self._clock()
        self._report(force=True)

    def grow(self, count: int) -> None:
        """Learn that `count` bytes more are to be done than was said."""
        with self._lock:
            self._total += count

    def advance(self, count: int) -> None:
        """Count bytes that came from a source as done; sleep as the rate asks.

        Raises:
            InterruptedRunError: a signal came.
        """
        self.count(count)
        self.pace(count)

    def count(self, count: int) -> None:
        """Count bytes as done that came before, or come to no rate.

        Raises:
            InterruptedRunError: a signal came.
        """
        self.check()
        with self._lock:
            self._done += count
        self._report(force=self._done >= self._total)

    def pace(self, count: int) -> None:
        """Sleep as long as the rate asks for bytes that came from a source.

        Raises:
            InterruptedRunError: a signal came.
        """
        if self._rate:
            with self._lock:  # time in which nothing came is made up for by a second at most
                until = max(self._paced_until, self._clock() - 1) + count / self._rate
                self._paced_until = until
            while (ahead := until - self._clock()) > 0:
                self.pause(min(ahead, _INTERVAL_SECONDS))
                self._report(force=False)
        self.check()

    @property
    def warnings(self) -> tuple[tuple[str, str], ...]:
        """What was warned of so far: pairs of reason and sentence."""
        with self._lock:
            return tuple(self._warnings)

    def warn(self, reason: str, message: str) -> None:
        """Pass a warning on."""
        with self._lock:
            self._warnings.append((reason, message))
            self._reporter.warning(reason, message)

    def note(self, event: str, text: str, **fields: object) -> None:
        """Pass on what else is worth knowing: the event and its fields to a program, the text to a person."""
        self._reporter.note(event, text, **fields)

    def end(self, error: VicunaError) -> None:
        """Let the run end with `error` at its next step: for a thread that finds it to be in vain."""
        self._error = error
        self._stop.set()

    def check(self) -> None:
        """Raise `InterruptedRunError` when a signal came, or what the run was ended with."""
        if self._stop.is_set():
            raise self._error or InterruptedRunError("Interrupted", "a signal ended the run; start it again")

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond a signal."""
        self._stop.wait(seconds)
        self.check()

    def _report(self, *, force: bool) -> None:
        with self._lock:
            now = self._clock()
            recent = self._reported is not None and now - self._reported < _INTERVAL_SECONDS
            if not self._total or (recent and not force):
                return
            self._reported = now
            elapsed = now - self._started
            self._reporter.progress(self._done, self._total, int(self._done / elapsed) if elapsed > 0 else 0)
