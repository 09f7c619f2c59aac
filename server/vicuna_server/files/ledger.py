"""What was read of files whose digest is stated, so that the bytes that are merged are the bytes that are hashed.

A writer may change a source at any moment, also between two reads. So each file is hashed in one pass from its first
byte to its last; reads of the merge are part of that pass while they go forward. Every other read of the file, before
or after, is noted by place and hash, and the pass must find the same bytes there. Memory is bounded by the number of
reads, not by their size.
"""

import hashlib
import heapq
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vicuna_server.errors import InputError

__all__ = ["Ledger", "Record", "is_kept", "keeping", "record_of"]

_READ_BYTES = 1024 * 1024
_MOST_GAP_BYTES = 64 * 1024 * 1024  # a read further ahead than this is not sequential: it counts as a read out of order


class _Note(NamedTuple):
    """One stretch that was read, and its sha256."""

    offset: int
    size: int
    sha256: bytes


class _Reading:
    """One way through a file, from its first byte on."""

    def __init__(self) -> None:
        self.position = 0
        self.sha256 = hashlib.sha256()
        self._ahead: list[_Note] = []  # a heap
        self._under_way: list[tuple[_Note, hashlib._Hash]] = []

    @property
    def expects_more(self) -> bool:
        """Whether there is a note of what has not come."""
        return bool(self._ahead or self._under_way)

    def expect(self, note: _Note) -> None:
        """Learn what must come, at this position or later."""
        heapq.heappush(self._ahead, note)

    def take(self, data: memoryview) -> bool:
        """Hash the next bytes; return whether all notes that end in them are right."""
        self.sha256.update(data)
        start, self.position = self.position, self.position + len(data)
        while self._ahead and self._ahead[0].offset < self.position:
            self._under_way.append((heapq.heappop(self._ahead), hashlib.sha256()))
        right, going_on = True, []
        for note, digest in self._under_way:
            end = note.offset + note.size
            digest.update(data[max(0, note.offset - start) : end - start])
            if end > self.position:
                going_on.append((note, digest))
            else:
                right = right and digest.digest() == note.sha256
        self._under_way = going_on
        return right


class Record:
    """What was read of one file. Any thread may add to it.

    Args:
        path: of the file.

    Attributes:
        path: of the file.
        bytes_again: of what the merge read in another order than it lies in, and is read once more at the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes_again = 0
        self._first = _Reading()
        self._second: _Reading | None = None  # for reads of places that the first has passed
        self._notes: dict[tuple[int, int], bytes] = {}
        self._sizes: set[int] = set()
        self._changed = False
        self._missed = False
        self._lock = threading.Lock()

    @property
    def was_read(self) -> bool:
        """Whether any of its bytes were."""
        return bool(self._notes or self._first.position)

    @property
    def was_missed(self) -> bool:
        """Whether it was looked for and could not be opened."""
        return self._missed

    @property
    def next_offset(self) -> int:
        """Where reading on begins."""
        return 0 if self._second else self._first.position

    def miss(self) -> None:
        """Note that it could not be opened."""
        self._missed = True

    def note_size(self, size: int) -> None:
        """Note how many bytes it was said to have."""
        with self._lock:
            self._sizes.add(size)

    def note(self, offset: int, blocks: Iterable[bytes | memoryview], *, ended: bool = False) -> None:
        """Note what was read at a place; with `ended` it was all there was from there on."""
        digest, size = hashlib.sha256(), 0
        for block in blocks:
            digest.update(block)
            size += len(block)
        with self._lock:
            if ended:
                self._sizes.add(offset + size)
            if size:
                self._add(_Note(offset, size, digest.digest()))

    def take(self, offset: int, blocks: Sequence[memoryview], read: Callable[[int, int], bytes]) -> None:
        """Go on with the hash of the whole file by what the merge read, or note that where it lies elsewhere.

        Args:
            offset: where it lies.
            blocks: what was read, in the file's order.
            read: returns so many bytes at an offset: what the merge leaves out between two reads.

        Raises:
            InputError: `DigestMismatch`: something is not as it was read before.
        """
        with self._lock:
            gap = offset - self._first.position
            forward = 0 <= gap <= _MOST_GAP_BYTES
            if forward:
                for start in range(self._first.position, offset, _READ_BYTES):
                    self._go_on(memoryview(read(start, min(_READ_BYTES, offset - start))))
                self._changed |= self._first.position != offset
                for block in blocks:
                    self._go_on(block)
            else:
                self.bytes_again += sum(map(len, blocks))
        if not forward:
            self.note(offset, blocks)
        if self._changed:
            raise self.changed()

    def finish(self, blocks: Iterable[memoryview]) -> str:
        """Read on to the end; return the sha256 of the whole file in hex.

        Args:
            blocks: its bytes from `next_offset` on.

        Raises:
            InputError: `DigestMismatch`: something is not as it was read before.
        """
        with self._lock:
            position = self.next_offset
            for block in blocks:
                for reading in self._readings:
                    self._changed |= not reading.take(block[max(0, reading.position - position) :])
                position += len(block)
            sizes = self._sizes | {reading.position for reading in self._readings}
            digests = {reading.sha256.hexdigest() for reading in self._readings}
            lacking = any(reading.expects_more for reading in self._readings)
        if self._changed or lacking or len(sizes) > 1 or len(digests) > 1:
            raise self.changed()
        return digests.pop()

    def changed(self) -> InputError:
        """Return what a merge ends with where it read other bytes at one time than at another."""
        return InputError(
            "DigestMismatch",
            f"{self.path} was changed while it was merged, so the stated digest does not cover what was read; merge "
            "again, while nobody writes there",
        )

    @property
    def _readings(self) -> list[_Reading]:
        return [self._first, self._second] if self._second else [self._first]

    def _go_on(self, data: memoryview) -> None:
        self._changed |= not self._first.take(data)

    def _add(self, note: _Note) -> None:
        known = self._notes.setdefault(note[:2], note.sha256)
        if known is not note.sha256:
            self._changed |= known != note.sha256
        elif note.offset >= self._first.position:
            self._first.expect(note)
        else:
            self._second = self._second or _Reading()
            self._second.expect(note)


class Ledger:
    """The records of all files that it is kept for.

    Args:
        covers: says whether it is kept for a file.
    """

    def __init__(self, covers: Callable[[Path], bool]) -> None:
        self._covers = covers
        self._records: dict[Path, Record] = {}
        self._lock = threading.Lock()

    @property
    def records(self) -> dict[Path, Record]:
        """Every record so far, by path."""
        with self._lock:
            return dict(self._records)

    def record_of(self, path: Path) -> Record | None:
        """Return a file's record, None where none is kept."""
        if not self._covers(path):
            return None
        with self._lock:
            return self._records.setdefault(path, Record(path))


_kept: Ledger | None = None


@contextmanager
def keeping(ledger: Ledger | None) -> Iterator[None]:
    """Have everything noted that is read of files of sources while this lasts, in every thread of the process."""
    global _kept  # one for the process, since `beneath` and `data_file` open files from any depth
    before, _kept = _kept, ledger
    try:
        yield
    finally:
        _kept = before


def is_kept() -> bool:
    """Whether a ledger is kept now."""
    return _kept is not None


def record_of(path: Path) -> Record | None:
    """Return a file's record in the ledger that is kept now, None where none is."""
    return None if _kept is None else _kept.record_of(path)
