"""How a run says how far it is: JSON lines for programs, a bar for people."""

import json
import os
import sys
import threading
from typing import Protocol, TextIO

from vicuna_contract import events

__all__ = ["Bar", "JsonLines", "Recording", "Reporter", "Silent", "make_reporter"]


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
        outlives_reader: go on, silently, after the reader has left; else that is a BrokenPipeError.
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
            # Python flushes the stream at exit: what is left in it must not fail there.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


class Silent:
    """A reporter that says nothing."""

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


class Recording:
    """Passes everything on to a reporter, one call at a time, and keeps the warnings: any thread may call it."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._warnings: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    @property
    def warnings(self) -> tuple[tuple[str, str], ...]:
        """The warnings so far: pairs of reason and sentence."""
        with self._lock:
            return tuple(self._warnings)

    def progress(self, done: int, total: int, per_second: int) -> None:
        """Pass it on."""
        with self._lock:
            self._reporter.progress(done, total, per_second)

    def warning(self, reason: str, message: str) -> None:
        """Keep it and pass it on."""
        with self._lock:
            self._warnings.append((reason, message))
            self._reporter.warning(reason, message)

    def note(self, event: str, text: str, **fields: object) -> None:
        """Pass it on."""
        with self._lock:
            self._reporter.note(event, text, **fields)

    def done(self, artifact_id: str, path: str) -> None:
        """Pass it on."""
        with self._lock:
            self._reporter.done(artifact_id, path)


def make_reporter(*, quiet: bool) -> "JsonLines | Bar":
    """Choose by whether standard output is a terminal."""
    if sys.stdout.isatty() and not quiet:
        return Bar()
    return JsonLines(sys.stdout, quiet=quiet, outlives_reader=True)
