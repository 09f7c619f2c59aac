"""Moving the bytes: one thread reads, one adds and hashes, one writes, one makes durable.

All four wait on each other through a fixed set of buffers, so memory is bounded whatever the model's size, and
the run takes as long as its slowest part alone. Reading, adding, hashing and writing all let go of Python's
interpreter lock, and none copies what another has.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from vicuna_server.artifacts.manifest import FileEntry
from vicuna_server.errors import InputError
from vicuna_server.files.ledger import is_kept
from vicuna_server.merge.arithmetic import copying
from vicuna_server.merge.arithmetic.copying import is_copy
from vicuna_server.merge.arithmetic.layout import Shard
from vicuna_server.merge.pipeline.chunks import ChunkBuffers, buffer_bytes, bytes_read, chunks
from vicuna_server.merge.pipeline.reading import Reader, Store
from vicuna_server.merge.pipeline.writing import Writer
from vicuna_server.run.control import Control
from vicuna_server.weights.tensors import DTYPE_BYTES

__all__ = ["write_shards"]

_BUFFERS = 4
_BUFFERS_HASHED = 2  # more of them, if the hashing stages hold some
_MOST_NAMED = 8


def write_shards(
    folder: Path,
    shards: Sequence[Shard],
    store: Store,
    control: Control,
    chunk_bytes: int,
    on_finished: Callable[[FileEntry], None] = lambda _: None,
) -> list[FileEntry]:
    """Write all shards into `folder`, each fsynced, and return their sizes and sha256.

    Args:
        folder: gets the files; none of them exists.
        shards: what to write, in order.
        store: brings the sources' files here.
        control: counts the bytes read, holds them to the rate, and ends the run on a signal.
        chunk_bytes: size of each buffer; there are three for each of the few chunks under way.
        on_finished: called with each file when its last byte is written, unless it holds values that are infinite or
            not a number; called from another thread.

    Raises:
        InputError: `TruncatedShard` when a source became shorter while it was read, `NonFinite` when the result
            holds values that are infinite or not a number: all tensors that do are named.
        InterruptedRunError: a signal came.
        OSError: reading or writing failed, a full disk included.
    """
    size = buffer_bytes(shards, chunk_bytes)
    hashing = is_kept()
    pool = [ChunkBuffers(size) for _ in range(_BUFFERS + _BUFFERS_HASHED * hashing)]
    reader = Reader(shards, store, pool, chunk_bytes, control, hashing=hashing)
    writer = Writer(folder, max(size, *(len(shard.header) for shard in shards)), on_finished, store.shard_finished)
    reader.start()
    writer.start()
    try:
        plain = all(is_copy(output) for shard in shards for output in shard.tensors)
        combiner = _Combiner(reader, writer, control, chunk_bytes, plain=plain)
        entries = [combiner.merge(shard) for shard in shards]
        combiner.require_finite()
    except BaseException:
        writer.abandon()
        raise
    else:
        writer.finish()
    finally:
        store.close()
        reader.stop()
        writer.join()
    writer.check()
    return entries


class _Combiner:
    """The middle of the pipeline: adds, checks, hashes. torch is loaded here, while the reader fills its buffers.

    `plain`: all that is written are bytes of the base, so that torch is not needed.
    """

    def __init__(self, reader: Reader, writer: Writer, control: Control, chunk_bytes: int, *, plain: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._control = control
        self._chunk_bytes = chunk_bytes
        self._non_finite: Counter[str] = Counter()
        if plain:
            self._combine, self._count_non_finite = copying.copy, copying.count_non_finite
            return
        from vicuna_server.merge.arithmetic import combining as arithmetic

        arithmetic.set_up()
        self._combine = arithmetic.combine
        self._count_non_finite = arithmetic.count_non_finite

    def merge(self, shard: Shard) -> FileEntry:
        """Pass one shard from the reader to the writer."""
        self._writer.open(shard.name)
        self._writer.room(len(shard.header))[:] = shard.header
        digest = hashlib.sha256(shard.header)
        changed = 0
        for output in shard.tensors:
            for chunk in chunks(output, self._chunk_bytes):
                buffers = self._reader.next(self._writer.check)
                merged = self._writer.room((chunk.stop - chunk.start) * DTYPE_BYTES[output.dtype])
                changed += self._combine(output, buffers.base_view, buffers.delta_view, chunk.start, merged)
                self._reader.give_back(buffers)
                self._non_finite[output.name] += self._count_non_finite(merged, output.dtype)
                digest.update(merged)
                self._writer.check()
                self._control.meter.count(bytes_read(chunk))
                self._control.throttle.pace(bytes_read(chunk, local=True))
        entry = FileEntry(path=shard.name, size=shard.size, sha256=digest.hexdigest(), changed=changed)
        # not finished for a resumed run, which would skip it and not see its values
        self._writer.close(entry, good=not any(self._non_finite[output.name] for output in shard.tensors))
        return entry

    def require_finite(self) -> None:
        """Raise `NonFinite` if any tensor merged so far holds values that are infinite or not a number."""
        bad = [(name, count) for name, count in self._non_finite.items() if count]
        if bad:
            shown = ", ".join(f"{name} ({count})" for name, count in bad[:_MOST_NAMED])
            more = f" and {len(bad) - _MOST_NAMED} more tensors" if len(bad) > _MOST_NAMED else ""
            raise InputError(
                "NonFinite",
                f"the result has values that are infinite or not a number in {shown}{more}; "
                "check the sources, or use --dtype (merge.dtype) float32 or bfloat16 if float16 is too narrow",
            )
