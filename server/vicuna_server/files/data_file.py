"""A file of a source wherever it lies: read at any place, by name in messages."""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from vicuna_server.files import ledger
from vicuna_server.files.beneath import open_file

__all__ = ["DataFile", "LocalFile", "buffered", "map_concurrently"]

_BUFFER_BYTES = 256 * 1024
_REQUESTS_AT_ONCE = 16
_WAIT_SECONDS = 0.2

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class DataFile(Protocol):
    """One file of weights. `str()` of it names it to a person. Hashable, and equal to another view of the same file."""

    @property
    def name(self) -> str:
        """The file's own name, without a folder."""

    @property
    def size(self) -> int:
        """Bytes in the file."""

    @property
    def sha256(self) -> str | None:
        """What its source states, in hex: other bytes will not be merged; None where it has to be read for that."""

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset`, fewer at the end of the file."""


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine; it is opened beneath its boundary each time, and the ledger learns what was read."""

    path: Path

    @property
    def name(self) -> str:
        """The file's own name, without a folder."""
        return self.path.name

    @property
    def size(self) -> int:
        """Bytes in the file."""
        size = self._with(lambda descriptor: os.fstat(descriptor).st_size)
        record = ledger.record_of(self.path)
        if record is not None:
            record.note_size(size)
        return size

    @property
    def sha256(self) -> None:
        """None: a folder states no digests."""

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset`, fewer at the end of the file."""
        data = self.read_again(offset, size)
        record = ledger.record_of(self.path)
        if record is not None:
            record.note(offset, [data], ended=len(data) < size)
        return data

    def read_again(self, offset: int, size: int) -> bytes:
        """Return what `read` does, of what is not noted in the ledger because it is hashed itself."""
        return self._with(lambda descriptor: os.pread(descriptor, size, offset))

    def _with(self, work: Callable[[int], _Result]) -> _Result:
        descriptor = open_file(self.path)
        try:
            return work(descriptor)
        finally:
            os.close(descriptor)

    def __str__(self) -> str:
        return str(self.path)


class _Stream(io.RawIOBase):
    """A seekable, read-only stream over a `DataFile`, for libraries that want one."""

    def __init__(self, file: DataFile) -> None:
        super().__init__()
        self._file = file
        self._size = file.size
        self._position = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move and return the position in bytes."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Fill as much of the buffer as there is; return how much."""
        view = memoryview(buffer).cast("B")
        data = self._file.read(self._position, len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def buffered(file: DataFile) -> BinaryIO:
    """Return a stream over a `DataFile` that reads ahead a little, so that small reads cost little."""
    return io.BufferedReader(_Stream(file), _BUFFER_BYTES)


def map_concurrently(
    work: Callable[[_Item], _Result], items: Iterable[_Item], files: Iterable[DataFile]
) -> Iterator[_Result]:
    """Yield what `work` makes of each item, in order; some at a time where files lie elsewhere: a read is a request.

    Args:
        work: reads from the files.
        items: what it is given.
        files: all that it reads from.
    """
    if all(isinstance(file, LocalFile) for file in files):
        yield from map(work, items)
        return
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE, "merge-look") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                # A signal that another thread takes does not wake the main one, whose turn its handler is.
                while not wait([future], _WAIT_SECONDS).done:
                    pass
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
