"""Writing output files in order and making them durable, in threads of their own."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from vicuna_server.manifest import FileEntry
from vicuna_server.merge.flow.layout import Shard
from vicuna_server.merge.flow.reading import Slot
from vicuna_server.merge.volume.storage import fsync_file, write_all

__all__ = ["Writer"]


class Writer(threading.Thread):
    """Writes in order, gives buffers back, and has a helper that fsyncs behind it.

    Args:
        folder: gets the files.
        free: gets the buffers back.
        finished: told of each file, in this thread, when its last byte is written and if it is good.
        next_file: called after each file, good or not.
    """

    def __init__(
        self,
        folder: Path,
        free: SimpleQueue[Slot | None],
        finished: Callable[[FileEntry], None],
        next_file: Callable[[], None],
    ) -> None:
        super().__init__(name="merge-writer", daemon=True)
        self._folder = folder
        self._free = free
        self._finished = finished
        self._next_file = next_file
        self._work: SimpleQueue[tuple[str, Any, Slot | None]] = SimpleQueue()
        self._flusher = _Flusher()
        self._failure: BaseException | None = None
        self._abandoned = False
        self._descriptor = -1

    def open(self, shard: Shard) -> None:
        """Begin a file with its header."""
        self._work.put(("open", shard, None))

    def write(self, data: memoryview, slot: Slot) -> None:
        """Append bytes; the buffer goes back when they are written."""
        self._work.put(("write", data, slot))

    def close(self, entry: FileEntry, *, good: bool) -> None:
        """End the file; it is fsynced in the background. One that is not good will not count as finished."""
        self._work.put(("close", (entry, good), None))

    def finish(self) -> None:
        """Let the thread end once everything is written and durable."""
        self._work.put(("end", None, None))

    def abandon(self) -> None:
        """Let the thread end at once."""
        self._abandoned = True
        self.finish()

    def check(self) -> None:
        """Raise what went wrong while writing."""
        failure = self._failure or self._flusher.failure
        if failure is not None:
            raise failure

    def run(self) -> None:
        """Write until told to end."""
        self._flusher.start()
        while True:
            task, data, slot = self._work.get()
            if task == "end":
                break
            try:
                if self._failure is None and not self._abandoned:
                    self._do(task, data)
            except BaseException as error:  # noqa: BLE001 - handed to the thread that asks
                self._failure = error
            if slot is not None:
                self._free.put(slot)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._flusher.finish()

    def _do(self, task: str, data: Any) -> None:
        if task == "open":
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(self._folder / data.name, flags, 0o644)
            write_all(self._descriptor, data.header)
        elif task == "write":
            write_all(self._descriptor, data)
        else:
            entry, good = data
            descriptor, self._descriptor = self._descriptor, -1
            self._flusher.close(descriptor, self._folder / entry.path)
            if good:
                self._finished(entry)
            self._next_file()


class _Flusher(threading.Thread):
    """Fsyncs finished files and closes them, one after the other."""

    def __init__(self) -> None:
        super().__init__(name="merge-flusher", daemon=True)
        self._work: SimpleQueue[tuple[int, Path] | None] = SimpleQueue()
        self.failure: BaseException | None = None

    def close(self, descriptor: int, path: Path) -> None:
        """Make a file durable and close it."""
        self._work.put((descriptor, path))

    def finish(self) -> None:
        """Wait until everything is durable."""
        self._work.put(None)
        self.join()

    def run(self) -> None:
        """Fsync until told to end."""
        while (task := self._work.get()) is not None:
            descriptor, path = task
            try:
                fsync_file(descriptor, path)
            except OSError as error:
                self.failure = self.failure or error
            finally:
                os.close(descriptor)
