"""The digest of a folder, from all bytes of the files that a merge reads."""

import hashlib
from collections.abc import Sequence

from vicuna_server.merge.files import DataFile
from vicuna_server.merge.identity import folder_digest
from vicuna_server.merge.progress import Progress

__all__ = ["digest_files", "hash_file"]

_READ_BYTES = 8 * 1024 * 1024


def digest_files(files: Sequence[DataFile], progress: Progress) -> str:
    """Return `sha256:<64 hex>` as `weights.*.digest` and `--base-digest` want it.

    Args:
        files: all files of a source that a merge reads.
        progress: counts the bytes, and ends the run on a signal.

    Raises:
        InterruptedRunError: a signal came.
    """
    return folder_digest({file.name: hash_file(file, progress) for file in files})


def hash_file(file: DataFile, progress: Progress) -> str:
    """Return the sha256 of a file in hex; counts the bytes where they must be read, and ends with a signal."""
    if file.sha256 is not None:
        return file.sha256
    digest = hashlib.sha256()
    position = 0
    while block := file.read(position, _READ_BYTES):
        digest.update(block)
        position += len(block)
        progress.advance(len(block))
    return digest.hexdigest()
