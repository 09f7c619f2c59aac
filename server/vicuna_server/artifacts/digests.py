"""The digest of a folder, from all bytes of the files that a merge reads."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from vicuna_server.artifacts.identity import folder_digest
from vicuna_server.files.buffers import new_buffer
from vicuna_server.files.data_file import DataFile, LocalFile
from vicuna_server.files.input_file import ROOM, InputFile

__all__ = ["FILES_AT_ONCE", "digest_files", "hash_file", "read_ahead"]

_READ_BYTES = 8 * 1024 * 1024
FILES_AT_ONCE = 2


def digest_files(files: Sequence[DataFile], advance: Callable[[int], None]) -> str:
    """Return `sha256:<64 hex>` as `weights.*.digest` and `--base-digest` want it.

    Args:
        files: all files of a source that a merge reads.
        advance: called with each count of bytes that was read, in several threads; raises where the run is to end.

    Raises:
        InterruptedRunError: `advance` says so.
    """
    with ThreadPoolExecutor(FILES_AT_ONCE, "merge-hash") as pool:
        hashes = pool.map(lambda file: hash_file(file, advance), files)
        return folder_digest(dict(zip((file.name for file in files), hashes, strict=True)))


def hash_file(file: DataFile, advance: Callable[[int], None]) -> str:
    """Return the sha256 of a file in hex; `advance` is called as by `digest_files`, if the bytes must be read."""
    if file.sha256 is not None:
        return file.sha256
    digest = hashlib.sha256()
    for block in read_ahead(file.path) if isinstance(file, LocalFile) else _read(file):
        digest.update(block)
        advance(len(block))
    return digest.hexdigest()


def _read(file: DataFile) -> Iterator[bytes]:
    position = 0
    while block := file.read(position, _READ_BYTES):
        yield block
        position += len(block)


def read_ahead(path: Path, start: int = 0) -> Iterator[memoryview]:
    """Yield a file's bytes from `start` on, each block good until the next is asked for, which is read meanwhile."""
    with closing(InputFile(path)) as file, ThreadPoolExecutor(1, "merge-read") as pool:
        size = max(0, file.size - start)
        most = min(size, _READ_BYTES)
        buffers = [new_buffer(most + ROOM), new_buffer(most + ROOM)]

        def read(number: int) -> memoryview:
            place = number * _READ_BYTES
            try:
                return file.read(buffers[number % 2], start + place, min(_READ_BYTES, size - place))
            except EOFError:
                return buffers[0][:0]  # it became shorter, so the hash will differ

        coming = pool.submit(read, 0) if size else None
        number = 0
        while coming is not None:
            block = coming.result()
            number += 1
            coming = pool.submit(read, number) if number * _READ_BYTES < size else None
            yield block
