"""Reading base and delta piece by piece into a fixed set of buffers, in a thread of its own."""

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

from vicuna_server.errors import InputError
from vicuna_server.merge.files import DataFile, LocalFile
from vicuna_server.merge.flow.layout import Shard, Step
from vicuna_server.merge.progress import Progress
from vicuna_server.merge.tensors import DTYPE_BYTES, Span, TensorSource

__all__ = ["LocalStore", "Piece", "Reader", "Slot", "Store", "buffer_bytes", "bytes_read", "files_in_order", "pieces"]

_POLL_SECONDS = 0.5
_MOST_PLACES = 1000  # IOV_MAX is 1024 on Linux
_AHEAD_BYTES = 128 * 1024 * 1024  # asked of the kernel at each file's opening: the disk works while torch is loaded


class Store(Protocol):
    """Brings files to this machine for reading."""

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes that come from elsewhere; `Progress` is told of them as they come."""

    def acquire(self, file: DataFile) -> Path:
        """Return where the file lies, waiting until it does; called from the reading thread, any number of times."""

    def finished(self) -> None:
        """Learn that one more shard is written, in their order: what no later one is made from may go."""

    def close(self) -> None:
        """Learn that the run has ended; `acquire` waits no more."""


class LocalStore:
    """Files that are here already."""

    @property
    def bytes_to_fetch(self) -> int:
        """Nothing."""
        return 0

    def acquire(self, file: DataFile) -> Path:
        """Return the file's path."""
        if not isinstance(file, LocalFile):
            raise TypeError(f"{file} is not on this machine")
        return file.path

    def finished(self) -> None:
        """Do nothing: inputs are never touched."""

    def close(self) -> None:
        """Do nothing: nobody waits."""


@dataclass(frozen=True)
class Piece:
    """Elements [start, stop) of one step."""

    step: Step
    start: int
    stop: int


class Slot:
    """Buffers for one piece on its way through the threads."""

    def __init__(self, size: int) -> None:
        self.base = bytearray(size)
        self.delta = bytearray(size)
        self.base_view = memoryview(b"")
        self.delta_view: memoryview | None = None
        self.piece: Piece | None = None


def pieces(step: Step, chunk_bytes: int) -> Iterator[Piece]:
    """Cut a tensor into pieces of at most `chunk_bytes` in each of base, delta and output, but whole units."""
    stride = _stride(step, chunk_bytes)
    for start in range(0, step.elements, stride):
        yield Piece(step, start, min(start + stride, step.elements))


def _stride(step: Step, chunk_bytes: int) -> int:
    unit = step.unit
    return max(1, chunk_bytes // _widest(step) // unit) * unit


def _widest(step: Step) -> int:
    return max(DTYPE_BYTES[step.dtype], *(DTYPE_BYTES[source.dtype] for source in step.sources))


def buffer_bytes(shards: Sequence[Shard], chunk_bytes: int) -> int:
    """Return how large a buffer must be to hold the largest piece."""
    steps = (step for shard in shards for step in shard.steps)
    return max((min(step.elements, _stride(step, chunk_bytes)) * _widest(step) for step in steps), default=0)


def files_in_order(shards: Sequence[Shard]) -> list[DataFile]:
    """List the files that these shards are read from, in the order of their first use."""
    return list(
        dict.fromkeys(
            file for shard in shards for step in shard.steps for source in step.sources for file in source.files
        )
    )


def _range(piece: Piece, source: TensorSource) -> tuple[int, int]:
    """Return the elements of a source in this piece: none beyond its end."""
    return min(piece.start, source.elements), min(piece.stop, source.elements)


def bytes_read(piece: Piece, *, local: bool = False) -> int:
    """Return how many bytes of base and delta make this piece; with `local`, of those that lie in local files."""
    total = 0
    for source in piece.step.sources:
        if local and not isinstance(source.files[0], LocalFile):
            continue
        first, last = _range(piece, source)
        total += (last - first) * DTYPE_BYTES[source.dtype]
    return total


class Reader(threading.Thread):
    """Reads pieces in order into free buffers."""

    def __init__(
        self,
        shards: Sequence[Shard],
        store: Store,
        free: SimpleQueue[Slot | None],
        chunk_bytes: int,
        progress: Progress,
    ) -> None:
        super().__init__(name="merge-reader", daemon=True)
        self._shards = shards
        self._store = store
        self._free = free
        self._chunk_bytes = chunk_bytes
        self._progress = progress
        self._ready: SimpleQueue[Slot | BaseException] = SimpleQueue()
        self._open: dict[DataFile, int] = {}
        self._uses = Counter(
            file for shard in shards for step in shard.steps for source in step.sources for file in source.files
        )

    def next(self, check: Callable[[], None]) -> Slot:
        """Return the next filled buffer; raise what stopped the reader, that a signal came, or what `check` raises."""
        while True:
            try:
                item = self._ready.get(timeout=_POLL_SECONDS)
            except Empty:
                self._progress.check()
                check()
                continue
            if isinstance(item, BaseException):
                raise item
            return item

    def run(self) -> None:
        """Fill buffers until all is read."""
        try:
            for shard in self._shards:
                for step in shard.steps:
                    if step.padding is not None:
                        step.padding.prepare(self._store.acquire)
                    for piece in pieces(step, self._chunk_bytes):
                        slot = self._free.get()
                        if slot is None:
                            return
                        self._fill(slot, piece)
                        self._ready.put(slot)
                    self._leave(step)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._ready.put(error)
        finally:
            for descriptor in self._open.values():
                os.close(descriptor)

    def _leave(self, step: Step) -> None:
        """Close the files that no later step reads."""
        for file in (file for source in step.sources for file in source.files):
            self._uses[file] -= 1
            if not self._uses[file]:
                descriptor = self._open.pop(file, None)
                if descriptor is not None:
                    os.close(descriptor)

    def _fill(self, slot: Slot, piece: Piece) -> None:
        slot.piece = piece
        step = piece.step
        slot.base_view = self._read(slot.base, step.base, _range(piece, step.base))
        slot.delta_view = self._read(slot.delta, step.delta, _range(piece, step.delta)) if step.delta else None

    def _read(self, buffer: bytearray, source: TensorSource, elements: tuple[int, int]) -> memoryview:
        start, stop = elements
        view = memoryview(buffer)[: (stop - start) * DTYPE_BYTES[source.dtype]]
        if stop > start:
            for span in source.spans(start, stop):
                self._read_span(view, span)
        return view

    def _read_span(self, view: memoryview, span: Span) -> None:
        descriptor = self._descriptor(span.file)
        position = span.offset
        waiting = deque(view[place : place + length] for place, length in span.places if length)
        while waiting:
            count = os.preadv(descriptor, list(islice(waiting, _MOST_PLACES)), position)
            if not count:
                raise InputError("TruncatedShard", f"{span.file} became shorter while it was read; merge again")
            position += count
            while waiting and count >= len(waiting[0]):
                count -= len(waiting.popleft())
            if count:
                waiting[0] = waiting[0][count:]

    def _descriptor(self, file: DataFile) -> int:
        descriptor = self._open.get(file)
        if descriptor is None:
            path = self._store.acquire(file)
            descriptor = self._open[file] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            os.posix_fadvise(descriptor, 0, _AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
        return descriptor
