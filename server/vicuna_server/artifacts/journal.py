"""Which files of a staging folder are finished: one line each, written right after the file's last byte.

Nothing rests on the lines being durable or true: who goes on with a dead run's files hashes them again. A torn
last line is as good as none.
"""

import json
import os
from pathlib import Path

from pydantic import ValidationError

from vicuna_server.artifacts.manifest import FileEntry, Manifest
from vicuna_server.errors import InputError
from vicuna_server.files.beneath import read_file
from vicuna_server.files.storage import write_all

__all__ = ["JOURNAL_NAME", "Journal", "finished_files"]

JOURNAL_NAME = ".journal"


class Journal:
    """The list of one staging folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL_NAME

    def begin(self) -> None:
        """Make the empty list: from now on what it does not name is unfinished."""
        self._write(b"")

    def append(self, entry: FileEntry) -> None:
        """Note a finished file."""
        self._write(json.dumps(entry.model_dump()).encode() + b"\n")

    def remove(self) -> None:
        """Forget all: the manifest says it now."""
        self._path.unlink(missing_ok=True)

    def _write(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            write_all(descriptor, line)
        finally:
            os.close(descriptor)


def finished_files(folder: Path) -> list[FileEntry]:
    """Return what the journal says is finished; what the manifest says where the journal has gone already."""
    try:
        text = (folder / JOURNAL_NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return _from_manifest(folder)
    entries = []
    for line in text.splitlines():
        try:
            entries.append(FileEntry.model_validate_json(line))
        except ValidationError:
            break
    return entries


def _from_manifest(folder: Path) -> list[FileEntry]:
    try:
        manifest = Manifest.load(folder, read_file)
    except InputError:
        return []
    return manifest.files if manifest else []
