"""Bringing the weights of remote sources here file by file: fetched, read, dropped, a little ahead of the reader."""

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path

from vicuna_server.errors import InterruptedRunError
from vicuna_server.files.data_file import DataFile
from vicuna_server.merge.arithmetic.layout import Shard
from vicuna_server.merge.pipeline.reading import LocalStore
from vicuna_server.merge.pipeline.window import Window
from vicuna_server.run.control import Control
from vicuna_server.weights.remote import RemoteFile

__all__ = ["RemoteStore"]

_CONNECTIONS = 4
_POLL_SECONDS = 0.5


class RemoteStore(LocalStore):
    """A `Store` for remote and local files alike; its threads begin with the first file asked for.

    Args:
        folder: gets the files, under `RemoteFile.stored_name`; what lies there of an earlier run is used.
        shards: what is to be written, in order: which files are needed, and when.
        control: counts the bytes that come, and ends the run on a signal.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard], control: Control) -> None:
        self._folder = folder
        self._control = control
        self._window = Window(shards)
        self._here: set[RemoteFile] = set()
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes of all files that these shards need."""
        return self._window.bytes_in_all

    def acquire(self, file: DataFile) -> Path:
        """Return where the file lies, waiting until it does.

        Raises:
            VicunaError: what ended the fetching, or that a signal came.
            OSError: the file could not be written.
        """
        if not isinstance(file, RemoteFile):
            return super().acquire(file)
        with self._changed:
            self._start()
            while file not in self._here:
                if self._failure is not None:
                    raise self._failure
                self._pause(0)
                self._changed.wait(_POLL_SECONDS)
        return self._folder / file.stored_name

    def shard_finished(self) -> None:
        """Remove what no later shard is made from."""
        with self._changed:
            gone = self._window.finish()
            self._here.difference_update(gone)
            self._changed.notify_all()
        for file in gone:
            with contextlib.suppress(OSError):  # if its room is needed, the write that needs it fails
                (self._folder / file.stored_name).unlink()

    def close(self) -> None:
        """Let the threads end at their next step; who waits for a file waits no more."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()

    def _start(self) -> None:
        if not self._threads:
            for _ in range(_CONNECTIONS):
                thread = threading.Thread(target=self._work, name="merge-fetch", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        try:
            while (file := self._next()) is not None:
                file.fetch(self._folder / file.stored_name, self._pause, self._control.meter.count)
                with self._changed:
                    self._here.add(file)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()

    def _next(self) -> RemoteFile | None:
        """Wait for room in the window; None once the store is closed or another thread failed."""
        with self._changed:
            while not self._closed.is_set() and self._failure is None:
                file = self._window.next()
                if file is not None:
                    return file
                self._changed.wait()
        return None

    def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the run."""
        if self._closed.wait(seconds):
            raise InterruptedRunError("Interrupted", "the merge has ended; run it again")
        self._control.cancellation.check()
