"""What a dead run left finished, so that its successor need not make it again."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vicuna_server.artifacts.digests import hash_file
from vicuna_server.artifacts.journal import finished_files
from vicuna_server.artifacts.manifest import FileEntry
from vicuna_server.artifacts.staging import Staging, remove
from vicuna_server.errors import InputError
from vicuna_server.files.data_file import LocalFile
from vicuna_server.files.storage import fsync_file
from vicuna_server.merge.arithmetic.layout import Shard
from vicuna_server.run.control import Control

__all__ = ["Leftovers"]


@dataclass(frozen=True)
class _Candidate:
    path: Path
    entry: FileEntry
    shard: Shard


class Leftovers:
    """Finished shards in folders that a staging folder's owner has seized; all else in them goes at once.

    Args:
        folders: what `Staging.seize` returned.
        shards: what is to be written. A leftover fits if name, size and header are those of one of them; the
            folder's key, the artifactID, stands for the rest.
    """

    def __init__(self, folders: Sequence[Path], shards: Sequence[Shard]) -> None:
        self._folders = folders
        self._found: dict[str, _Candidate] = {}
        wanted = {shard.name: shard for shard in shards}
        for folder in folders:
            for entry in finished_files(folder):
                shard = wanted.get(entry.path)
                if shard and entry.path not in self._found and _fits(folder / entry.path, entry, shard):
                    self._found[entry.path] = _Candidate(folder / entry.path, entry, shard)
            self._empty(folder)

    @property
    def size(self) -> int:
        """Bytes that need not be made again, if their hashes are right."""
        return sum(candidate.entry.size for candidate in self._found.values())

    @property
    def bytes_to_read(self) -> int:
        """Bytes of base and delta that need not be read, if the hashes are right."""
        return sum(candidate.shard.bytes_to_read for candidate in self._found.values())

    def adopt(self, staging: Staging, control: Control) -> list[FileEntry]:
        """Hash every leftover again, make it durable and move it into `staging`; return those that are whole.

        Raises:
            InterruptedRunError: a signal came; what is left stays for the next run.
        """
        entries = []
        for candidate in self._found.values():
            path, entry = candidate.path, candidate.entry
            if hash_file(LocalFile(path), control.advance) == entry.sha256:
                _make_durable(path)
                # before the rename: wherever a crash leaves the file, one of the two journals names it
                staging.journal.append(entry)
                path.rename(staging.path / entry.path)
                entries.append(entry)
        for folder in self._folders:
            remove(folder)
        if entries:
            size = sum(entry.size for entry in entries)
            text = f"going on after {len(entries)} finished files of {size} bytes"
            control.reporter.note("resumed", text, files=len(entries), bytes=size)
        return entries

    def _empty(self, folder: Path) -> None:
        """Remove what is of no use, so that its room counts."""
        keep = {candidate.path for candidate in self._found.values()}
        if not any(path.parent == folder for path in keep):
            remove(folder)
            return
        for path in folder.iterdir():
            if path not in keep and path.suffix == ".safetensors":
                remove(path)


def _fits(path: Path, entry: FileEntry, shard: Shard) -> bool:
    with contextlib.suppress(OSError, InputError):
        file = LocalFile(path)
        return entry.size == shard.size == file.size and file.read(0, len(shard.header)) == shard.header
    return False


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fsync_file(descriptor, path)
    finally:
        os.close(descriptor)
