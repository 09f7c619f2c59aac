"""Reading base and delta piece by piece into a fixed set of buffers, in a thread of its own."""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from vicuna_server.errors import InputError
from vicuna_server.merge.layout import Shard, Step
from vicuna_server.merge.tensors import DTYPE_BYTES

__all__ = ["Piece", "Reader", "Slot", "bytes_read", "pieces"]


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
    """Cut a tensor into pieces of at most `chunk_bytes` in each of base, delta and output."""
    widest = max(DTYPE_BYTES[tensor.dtype] for tensor in (step.base, step.delta or step.base))
    stride = chunk_bytes // max(widest, DTYPE_BYTES[step.dtype])
    for start in range(0, step.elements, stride):
        yield Piece(step, start, min(start + stride, step.elements))


def _base_range(piece: Piece) -> tuple[int, int]:
    """Return the elements of the base in this piece: none beyond its end, where it counts as zero."""
    elements = piece.step.base.elements
    return min(piece.start, elements), min(piece.stop, elements)


def bytes_read(piece: Piece) -> int:
    """Return how many bytes of base and delta make this piece."""
    first, last = _base_range(piece)
    size = (last - first) * DTYPE_BYTES[piece.step.base.dtype]
    if piece.step.delta:
        size += (piece.stop - piece.start) * DTYPE_BYTES[piece.step.delta.dtype]
    return size


class Reader(threading.Thread):
    """Reads pieces in order into free buffers."""

    def __init__(self, shards: Sequence[Shard], free: SimpleQueue[Slot | None], chunk_bytes: int) -> None:
        super().__init__(name="merge-reader", daemon=True)
        self._shards = shards
        self._free = free
        self._chunk_bytes = chunk_bytes
        self._ready: SimpleQueue[Slot | BaseException] = SimpleQueue()
        self._files: dict[Path, int] = {}

    def next(self) -> Slot:
        """Return the next filled buffer; raise what stopped the reader."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def run(self) -> None:
        """Fill buffers until all is read."""
        try:
            for shard in self._shards:
                for step in shard.steps:
                    for piece in pieces(step, self._chunk_bytes):
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

    def _fill(self, slot: Slot, piece: Piece) -> None:
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
