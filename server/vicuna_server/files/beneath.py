"""Opens a source's files so that nothing outside is ever read, whatever links say, and whoever changes them."""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vicuna_contract.names import SOURCE_ROOTS_VARIABLE
from vicuna_server.errors import InputError
from vicuna_server.files import ledger
from vicuna_server.files.boundary import Boundary, boundary
from vicuna_server.files.descent import Descent, LeavesSourceError

__all__ = ["Entry", "is_file", "links_allowed", "list_folder", "open_file", "read_file"]

_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # without O_NONBLOCK, opening a pipe waits for its writer

_MOST_BYTES = 64 * 1024 * 1024  # of a file that is read whole; the largest tokenizers have half of that
_PLACES = 256

_allowed = False


@dataclass(frozen=True)
class Entry:
    """One name in a folder.

    Attributes:
        name: without a folder.
        kind: `file`, `folder`, `dangling` (a link to nothing), `outside` (one that leaves the source) or `other`.
        target: what a link says; empty where it is not one.
    """

    name: str
    kind: str
    target: str = ""


@contextlib.contextmanager
def links_allowed(*, allowed: bool) -> Iterator[None]:
    """Let links lead anywhere while this lasts, in every thread of the process: what `--allow-links` asks for."""
    global _allowed  # one policy for everything that a command reads
    before, _allowed = _allowed, allowed
    try:
        yield
    finally:
        _allowed = before


def open_file(path: Path) -> int:
    """Return a descriptor of a regular file, for reading.

    Raises:
        LeavesSourceError: `LinkLeavesSource`.
        InputError: `SourceForbidden` where it is not a file but a pipe, a device or the like.
        OSError: it is not there or cannot be read.
    """
    try:
        descriptor = os.open(path, _FILE) if _allowed else _open_beneath(path)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError("SourceForbidden", f"{path} is not a file but a folder, pipe or device; put a file there")
    except (InputError, OSError):
        record = ledger.record_of(path)
        if record is not None:
            record.miss()
        raise
    return descriptor


def read_file(path: Path, most: int = _MOST_BYTES) -> bytes:
    """Return a file's content, of a larger one the first `most` bytes.

    Raises:
        InputError, OSError: as `open_file`.
    """
    with open(open_file(path), "rb") as file:
        content = file.read(most)
    record = ledger.record_of(path)
    if record is not None:
        record.note(0, [content], ended=len(content) < most)
    return content


def is_file(path: Path) -> bool:
    """Whether a regular file is there.

    Raises:
        LeavesSourceError: a link leads out.
    """
    try:
        os.close(open_file(path))
    except LeavesSourceError:
        raise
    except PermissionError:
        return True  # the read that follows says why
    except (InputError, OSError):
        return False
    return True


def list_folder(folder: Path) -> list[Entry]:
    """Return what lies in a folder.

    Raises:
        LeavesSourceError: the folder itself lies behind a link that leads out.
        OSError: it is not there, is not a folder or cannot be read.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if _allowed:
        descriptor = os.open(folder, flags)
    else:
        place = _place(folder)
        with Descent(folder, place) as descent:
            for name in place.way:
                descent.go(name)
            descriptor = os.open(".", flags, dir_fd=descent.last)
    try:
        with os.scandir(descriptor) as found:
            names = [(item.name, item.stat(follow_symlinks=False).st_mode) for item in found]
        return [
            _entry(folder, name, mode, os.readlink(name, dir_fd=descriptor) if stat.S_ISLNK(mode) else "")
            for name, mode in sorted(names)
        ]
    finally:
        os.close(descriptor)


def _entry(folder: Path, name: str, mode: int, target: str) -> Entry:
    try:
        if target:
            mode = _mode_behind(folder / name)
    except LeavesSourceError:
        nowhere = not _place(folder).mounted and not (folder / name).exists()
        return Entry(name, "dangling" if nowhere else "outside", target)
    except OSError:
        return Entry(name, "dangling", target)
    return Entry(name, "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other", target)


def _mode_behind(path: Path) -> int:
    """Return the type of what a link leads to."""
    if _allowed:
        return path.stat().st_mode
    descriptor = _open_beneath(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)


def _open_beneath(path: Path, flags: int = _FILE) -> int:
    place = _place(path.parent)
    with Descent(path, place) as descent:
        for name in place.way:
            descent.go(name)
        return descent.open(path.name, flags)


def _place(folder: Path) -> Boundary:
    """Return a folder's boundary; a link that a user named is taken as it was at the first look."""
    return _known(folder.absolute(), os.environ.get(SOURCE_ROOTS_VARIABLE, ""))


@lru_cache(_PLACES)
def _known(folder: Path, mounts: str) -> Boundary:
    return boundary(folder, [Path(root) for root in mounts.split(os.pathsep) if root])
