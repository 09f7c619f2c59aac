"""Writing output files in order and making them durable, in threads of their own."""

import os
import threading
from collections.abc import Callable
from mmap import PAGESIZE
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from vicuna_server.artifacts.manifest import FileEntry
from vicuna_server.files.buffers import new_buffer
from vicuna_server.files.output_file import OutputFile
from vicuna_server.files.storage import fsync_file

__all__ = ["Writer"]

_BLOCKS = 3


class Writer(threading.Thread):
    """Gives room for what is to be written, writes it in order, and has a helper that fsyncs behind it.

    Args:
        folder: gets the files.
        most_room: the most bytes that are ever asked for at once.
        on_finished: called with each file, in this thread, when its last byte is written and if it is good.
        on_next: called after each file, good or not.
    """

    def __init__(
        self,
        folder: Path,
        most_room: int,
        on_finished: Callable[[FileEntry], None],
        on_next: Callable[[], None],
    ) -> None:
        super().__init__(name="merge-writer", daemon=True)
        self._folder = folder
        self._on_finished = on_finished
        self._on_next = on_next
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(_BLOCKS - 1):
            self._free.put(new_buffer(most_room + PAGESIZE))
        self._block = new_buffer(most_room + PAGESIZE)
        self._filled = 0
        self._work: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._flusher = _Flusher()
        self._failure: BaseException | None = None
        self._abandoned = False
        self._file: OutputFile | None = None

    def open(self, name: str) -> None:
        """Begin a file."""
        self._work.put(("open", name))

    def room(self, size: int) -> memoryview:
        """Return the place of the file's next `size` bytes, to be filled before anything else is asked for."""
        if self._filled + size > len(self._block):
            self._hand_over(self._filled // PAGESIZE * PAGESIZE)  # the last page, not full yet, moves to the next block
        place = self._block[self._filled : self._filled + size]
        self._filled += size
        return place

    def close(self, entry: FileEntry, *, good: bool) -> None:
        """End the file; it is fsynced in the background. One that is not good will not count as finished."""
        self._hand_over(self._filled)
        self._work.put(("close", (entry, good)))

    def finish(self) -> None:
        """Let the thread end once everything is written and durable."""
        self._work.put(("end", None))

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
            task, data = self._work.get()
            if task == "end":
                break
            try:
                if self._failure is None and not self._abandoned:
                    self._do(task, data)
            except BaseException as error:  # noqa: BLE001 - handed to the thread that asks
                self._failure = error
            if task == "write":
                self._free.put(data[0])
        if self._file is not None:
            os.close(self._file.descriptor)
        self._flusher.finish()

    def _hand_over(self, size: int) -> None:
        """Have so many bytes written, and go on with the others in a new block."""
        block = self._free.get()
        rest = self._block[size : self._filled]
        block[: len(rest)] = rest
        self._work.put(("write", (self._block, size)))
        self._block, self._filled = block, len(rest)

    def _do(self, task: str, data: Any) -> None:
        if task == "open":
            self._file = OutputFile(self._folder / data)
            return
        assert self._file is not None  # noqa: S101 - opened before
        if task == "write":
            block, size = data
            self._file.append(block[:size])
            return
        entry, good = data
        self._flusher.close(self._file)
        self._file = None
        if good:
            self._on_finished(entry)
        self._on_next()


class _Flusher(threading.Thread):
    """Fsyncs finished files and closes them, one after the other."""

    def __init__(self) -> None:
        super().__init__(name="merge-flusher", daemon=True)
        self._work: SimpleQueue[OutputFile | None] = SimpleQueue()
        self.failure: BaseException | None = None

    def close(self, file: OutputFile) -> None:
        """Make a file durable and close it."""
        self._work.put(file)

    def finish(self) -> None:
        """Wait until everything is durable."""
        self._work.put(None)
        self.join()

    def run(self) -> None:
        """Fsync until told to end."""
        while (file := self._work.get()) is not None:
            try:
                fsync_file(file.descriptor, file.path)
            except OSError as error:
                self.failure = self.failure or error
            finally:
                os.close(file.descriptor)
