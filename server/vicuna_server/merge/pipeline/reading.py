"""Reading base and delta chunk by chunk into a fixed set of buffers, in a thread of its own."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

from vicuna_server.errors import InputError
from vicuna_server.files.data_file import DataFile, LocalFile
from vicuna_server.files.input_file import InputFile
from vicuna_server.files.ledger import record_of
from vicuna_server.merge.arithmetic.layout import OutputTensor, Shard
from vicuna_server.merge.pipeline.chunks import Chunk, ChunkBuffers, chunks, span_in
from vicuna_server.merge.pipeline.hashing import HashedRead, HashingStage
from vicuna_server.run.control import Control
from vicuna_server.weights.tensors import DTYPE_BYTES, TensorSource

__all__ = ["LocalStore", "Reader", "Store", "files_in_order"]

_POLL_SECONDS = 0.5
_AHEAD_BYTES = 128 * 1024 * 1024  # of each of the first files, so that the disk works while torch is imported
_WIDEST_ELEMENT = 8


class Store(Protocol):
    """Brings files to this machine for reading."""

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes that come from elsewhere; `Control.meter` counts them as they come."""

    def acquire(self, file: DataFile) -> Path:
        """Return where the file lies, waiting until it does; called from the reading thread, any number of times."""

    def shard_finished(self) -> None:
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

    def shard_finished(self) -> None:
        """Do nothing: inputs are never touched."""

    def close(self) -> None:
        """Do nothing: nobody waits."""


def files_in_order(shards: Sequence[Shard]) -> list[DataFile]:
    """List the files that these shards are read from, in the order of their first use."""
    return list(
        dict.fromkeys(
            file for shard in shards for output in shard.tensors for source in output.sources for file in source.files
        )
    )


class Reader(threading.Thread):
    """Reads chunks in order into free buffers; with `hashing` the ledger learns of them before `next` returns them."""

    def __init__(
        self,
        shards: Sequence[Shard],
        store: Store,
        pool: Sequence[ChunkBuffers],
        chunk_bytes: int,
        control: Control,
        *,
        hashing: bool = False,
    ) -> None:
        super().__init__(name="merge-reader", daemon=True)
        self._shards = shards
        self._store = store
        self._free: SimpleQueue[ChunkBuffers | None] = SimpleQueue()
        for buffers in pool:
            self._free.put(buffers)
        self._chunk_bytes = chunk_bytes
        self._cancellation = control.cancellation
        self._ready: SimpleQueue[ChunkBuffers | BaseException] = SimpleQueue()
        self._filled = self._ready
        self._stages: list[HashingStage] = []
        if hashing:
            self._filled, between = SimpleQueue(), SimpleQueue[ChunkBuffers | BaseException]()
            self._stages = [
                HashingStage(lambda buffers: buffers.base_reads, self._filled, between, control.meter.grow),
                HashingStage(lambda buffers: buffers.delta_reads, between, self._ready, control.meter.grow),
            ]
        self._open: dict[DataFile, InputFile] = {}
        self._wanted = False
        self._uses = Counter(
            file for shard in shards for output in shard.tensors for source in output.sources for file in source.files
        )

    def next(self, check: Callable[[], None]) -> ChunkBuffers:
        """Return the next filled buffer; raise what stopped the reader, that a signal came, or what `check` raises."""
        self._wanted = True
        while True:
            try:
                item = self._ready.get(timeout=_POLL_SECONDS)
            except Empty:
                self._cancellation.check()
                check()
                continue
            if isinstance(item, BaseException):
                raise item
            return item

    def give_back(self, buffers: ChunkBuffers) -> None:
        """Let buffers be filled anew."""
        self._free.put(buffers)

    def stop(self) -> None:
        """End, whatever is left to read, and wait for the end."""
        self._free.put(None)
        self.join()
        for stage in self._stages:
            stage.stop()

    def run(self) -> None:
        """Fill buffers until all is read."""
        for stage in self._stages:
            stage.start()
        try:
            for shard in self._shards:
                for output in shard.tensors:
                    if output.padding is not None:
                        output.padding.prepare(self._store.acquire)
                    for chunk in chunks(output, self._chunk_bytes):
                        buffers = self._free.get()
                        if buffers is None:
                            return
                        self._fill(buffers, chunk)
                        self._filled.put(buffers)
                    self._leave(output)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._filled.put(error)
        finally:
            for file in self._open.values():
                file.close()

    def _leave(self, output: OutputTensor) -> None:
        """Close the files that no later tensor needs."""
        for file in (file for source in output.sources for file in source.files):
            self._uses[file] -= 1
            if not self._uses[file] and file in self._open:
                self._open.pop(file).close()

    def _fill(self, buffers: ChunkBuffers, chunk: Chunk) -> None:
        buffers.chunk = chunk
        output = chunk.tensor
        buffers.base_reads, buffers.delta_reads = [], []
        buffers.base_view = self._read(buffers.base, output.base, span_in(chunk, output.base), buffers.base_reads)
        buffers.delta_view = None
        if output.delta:
            buffers.delta_view = self._read(
                buffers.delta, output.delta, span_in(chunk, output.delta), buffers.delta_reads
            )

    def _read(
        self, buffer: memoryview, source: TensorSource, elements: tuple[int, int], reads: list[HashedRead]
    ) -> memoryview:
        """Read a chunk of one source; what of it is to be hashed is added to `reads`."""
        start, stop = elements
        size = (stop - start) * DTYPE_BYTES[source.dtype]
        if not size:
            return buffer[:0]
        view = buffer[:size]
        for span in source.spans(start, stop):
            file = self._file(span.file)
            record = record_of(span.file.path) if isinstance(span.file, LocalFile) else None
            try:
                if span.places == ((0, size),) and not span.offset % _WIDEST_ELEMENT:
                    view = file.read(buffer, span.offset, size)
                else:
                    file.scatter((view[place : place + length] for place, length in span.places), span.offset)
            except EOFError:
                message = f"{span.file} became shorter while it was read; merge again"
                raise InputError("TruncatedShard", message) from None
            if record:
                blocks = [view[place : place + length] for place, length in span.places]
                reads.append(HashedRead(record, span.offset, blocks))
        return view

    def _file(self, file: DataFile) -> InputFile:
        found = self._open.get(file)
        if found is None:
            found = self._open[file] = InputFile(self._store.acquire(file))
            if not self._wanted:
                found.read_ahead(_AHEAD_BYTES)
        return found
