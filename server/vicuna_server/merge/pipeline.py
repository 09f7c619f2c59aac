"""Moving the bytes: one thread reads, one adds and hashes, one writes, one makes durable.

All four wait on each other through a fixed set of buffers, so memory is bounded whatever the model's size, and
the run takes as long as its slowest part alone (usually the writing). Reading, hashing and writing all let go
of Python's interpreter lock.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

from vicuna_server.manifest import FileEntry
from vicuna_server.merge.arithmetic import combine, set_up
from vicuna_server.merge.layout import Shard
from vicuna_server.merge.progress import Progress
from vicuna_server.merge.reading import Reader, Slot, bytes_read, pieces
from vicuna_server.merge.writing import Writer

__all__ = ["write_shards"]

_SLOTS = 4


def write_shards(folder: Path, shards: Sequence[Shard], progress: Progress, chunk_bytes: int) -> list[FileEntry]:
    """Write all shards into `folder`, each fsynced, and return their sizes and sha256.

    Args:
        folder: gets the files; none of them exists.
        shards: what to write, in order.
        progress: counts the bytes read, and ends the run on a signal.
        chunk_bytes: size of each buffer; there are two for each of the few pieces under way.

    Raises:
        InputError: `TruncatedShard` when a source became shorter while it was read.
        InterruptedRunError: a signal came.
        OSError: reading or writing failed, a full disk included.
    """
    set_up()
    free: SimpleQueue[Slot | None] = SimpleQueue()
    for _ in range(_SLOTS):
        free.put(Slot(chunk_bytes))
    reader = Reader(shards, free, chunk_bytes)
    writer = Writer(folder, free)
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


def _merge_shard(shard: Shard, reader: Reader, writer: Writer, progress: Progress, chunk_bytes: int) -> FileEntry:
    digest = hashlib.sha256(shard.header)
    writer.open(shard)
    for step in shard.steps:
        for piece in pieces(step, chunk_bytes):
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
            progress.advance(bytes_read(piece))
    writer.close()
    return FileEntry(path=shard.name, size=shard.size, sha256=digest.hexdigest())
