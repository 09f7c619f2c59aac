"""Moving the bytes: one thread reads, one adds and hashes, one writes, one makes durable.

All four wait on each other through a fixed set of buffers, so memory is bounded whatever the model's size, and
the run takes as long as its slowest part alone (usually the writing). Reading, hashing and writing all let go
of Python's interpreter lock.
"""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from vicuna_server.errors import InputError
from vicuna_server.manifest import FileEntry
from vicuna_server.merge.arithmetic import combine, set_up
from vicuna_server.merge.layout import Shard, Step
from vicuna_server.merge.progress import Progress
from vicuna_server.merge.tensors import DTYPE_BYTES

__all__ = ["CHUNK_BYTES", "write_shards"]

CHUNK_BYTES = 8 * 1024 * 1024  # per tensor and buffer; the contract allows 16 MiB
_SLOTS = 4


@dataclass(frozen=True)
class _Piece:
    """Elements [start, stop) of one step."""

    step: Step
    start: int
    stop: int


class _Slot:
    """Buffers for one piece on its way through the threads."""

    def __init__(self, size: int) -> None:
        self.base = bytearray(size)
        self.delta = bytearray(size)
        self.base_view = memoryview(b"")
        self.delta_view: memoryview | None = None
        self.piece: _Piece | None = None


def write_shards(
    folder: Path, shards: Sequence[Shard], progress: Progress, chunk_bytes: int = CHUNK_BYTES
) -> list[FileEntry]:
    """Write all shards into `folder`, each fsynced, and return their sizes and sha256.

    Raises:
        InputError: `TruncatedShard` when a source became shorter while it was read.
        InterruptedRunError: a signal came.
        OSError: reading or writing failed, a full disk included.
    """
    set_up()
    free: SimpleQueue[_Slot | None] = SimpleQueue()
    for _ in range(_SLOTS):
        free.put(_Slot(chunk_bytes))
    reader = _Reader(shards, free, chunk_bytes)
    writer = _Writer(folder, free)
    reader.start()
    writer.start()
    try:
        entries = [_merge_shard(shard, reader, writer, progress, chunk_bytes) for shard in shards]
    except BaseException:
        writer.abandon()
        raise
    else:
        writer.finish()
    finally:
        free.put(None)  # a reader that waits for a buffer ends
        reader.join()
        writer.join()
    writer.check()
    return entries


def _merge_shard(shard: Shard, reader: "_Reader", writer: "_Writer", progress: Progress, chunk_bytes: int) -> FileEntry:
    digest = hashlib.sha256(shard.header)
    writer.open(shard)
    for step in shard.steps:
        for piece in _pieces(step, chunk_bytes):
            slot = reader.next()
            merged = combine(
                slot.base_view,
                step.base.dtype,
                slot.delta_view,
                step.delta.dtype if step.delta else step.base.dtype,
                step.dtype,
            )
            digest.update(merged)
            writer.check()
            writer.write(merged, slot)
            progress.advance(_bytes_read(piece))
    writer.close()
    return FileEntry(path=shard.name, size=shard.size, sha256=digest.hexdigest())


def _pieces(step: Step, chunk_bytes: int) -> Iterator[_Piece]:
    widest = max(DTYPE_BYTES[tensor.dtype] for tensor in (step.base, step.delta or step.base))
    stride = chunk_bytes // max(widest, DTYPE_BYTES[step.dtype])
    for start in range(0, step.elements, stride):
        yield _Piece(step, start, min(start + stride, step.elements))


def _base_range(piece: _Piece) -> tuple[int, int]:
    """Return the elements of the base in this piece: none beyond its end, where it counts as zero."""
    elements = piece.step.base.elements
    return min(piece.start, elements), min(piece.stop, elements)


def _bytes_read(piece: _Piece) -> int:
    first, last = _base_range(piece)
    size = (last - first) * DTYPE_BYTES[piece.step.base.dtype]
    if piece.step.delta:
        size += (piece.stop - piece.start) * DTYPE_BYTES[piece.step.delta.dtype]
    return size


class _Reader(threading.Thread):
    """Reads pieces in order into free buffers."""

    def __init__(self, shards: Sequence[Shard], free: "SimpleQueue[_Slot | None]", chunk_bytes: int) -> None:
        super().__init__(name="merge-reader", daemon=True)
        self._shards = shards
        self._free = free
        self._chunk_bytes = chunk_bytes
        self._ready: SimpleQueue[_Slot | BaseException] = SimpleQueue()
        self._files: dict[Path, int] = {}

    def next(self) -> _Slot:
        """Return the next filled buffer; raise what stopped the reader."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def run(self) -> None:
        try:
            for shard in self._shards:
                for step in shard.steps:
                    for piece in _pieces(step, self._chunk_bytes):
                        slot = self._free.get()
                        if slot is None:
                            return
                        self._fill(slot, piece)
                        self._ready.put(slot)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._ready.put(error)
        finally:
            for descriptor in self._files.values():
                os.close(descriptor)

    def _fill(self, slot: _Slot, piece: _Piece) -> None:
        slot.piece = piece
        base, delta = piece.step.base, piece.step.delta
        slot.base_view = self._read(slot.base, base.path, base.offset, DTYPE_BYTES[base.dtype], _base_range(piece))
        slot.delta_view = None
        if delta:
            elements = (piece.start, piece.stop)
            slot.delta_view = self._read(slot.delta, delta.path, delta.offset, DTYPE_BYTES[delta.dtype], elements)

    def _read(self, buffer: bytearray, path: Path, offset: int, width: int, elements: tuple[int, int]) -> memoryview:
        view = memoryview(buffer)[: (elements[1] - elements[0]) * width]
        descriptor = self._files.get(path)
        if descriptor is None:
            descriptor = self._files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        position, filled = offset + elements[0] * width, 0
        while filled < len(view):
            count = os.preadv(descriptor, [view[filled:]], position + filled)
            if not count:
                raise InputError("TruncatedShard", f"{path} became shorter while it was read; merge again")
            filled += count
        return view


class _Writer(threading.Thread):
    """Writes in order, gives buffers back, and has a helper that fsyncs behind it."""

    def __init__(self, folder: Path, free: "SimpleQueue[_Slot | None]") -> None:
        super().__init__(name="merge-writer", daemon=True)
        self._folder = folder
        self._free = free
        self._work: SimpleQueue[tuple[str, Any, _Slot | None]] = SimpleQueue()
        self._flusher = _Flusher()
        self._failure: BaseException | None = None
        self._abandoned = False
        self._descriptor = -1

    def open(self, shard: Shard) -> None:
        """Begin a file with its header."""
        self._work.put(("open", shard, None))

    def write(self, data: memoryview, slot: _Slot) -> None:
        """Append bytes; the buffer goes back when they are written."""
        self._work.put(("write", data, slot))

    def close(self) -> None:
        """End the file; it is fsynced in the background."""
        self._work.put(("close", None, None))

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
            self._append(memoryview(data.header))
        elif task == "write":
            self._append(data)
        else:
            descriptor, self._descriptor = self._descriptor, -1
            self._flusher.close(descriptor)

    def _append(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]


class _Flusher(threading.Thread):
    """Fsyncs finished files and closes them, one after the other."""

    def __init__(self) -> None:
        super().__init__(name="merge-flusher", daemon=True)
        self._work: SimpleQueue[int | None] = SimpleQueue()
        self.failure: BaseException | None = None

    def close(self, descriptor: int) -> None:
        """Make a file durable and close it."""
        self._work.put(descriptor)

    def finish(self) -> None:
        """Wait until everything is durable."""
        self._work.put(None)
        self.join()

    def run(self) -> None:
        while (descriptor := self._work.get()) is not None:
            try:
                os.fsync(descriptor)
            except OSError as error:
                self.failure = self.failure or error
            finally:
                os.close(descriptor)
