"""Opening a source's files so that nothing outside is ever read, whatever links say, and whoever changes them.

The way down is gone name by name, each opened relative to the folder before it without following a link (openat(2),
O_NOFOLLOW); what is a link is read and taken apart here. So a link that is changed meanwhile leads nowhere else, and
`..` leads back to the folder that was really passed. openat2(2) with RESOLVE_BENEATH does the same, but refuses links
that are absolute and stay inside, and knows no places in between that are closed.
"""

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath

from vicuna_contract.names import SOURCE_ROOTS_VARIABLE
from vicuna_server.errors import InputError
from vicuna_server.files import ledger
from vicuna_server.files.boundary import Boundary, boundary

__all__ = ["Entry", "LeavesSourceError", "is_file", "links_allowed", "list_folder", "open_file", "read_file"]

_MOST_LINKS = 40  # as in the kernel
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # without O_NONBLOCK, opening a pipe waits for its writer

_MOST_BYTES = 64 * 1024 * 1024  # of a file that is read whole; the largest tokenizers have half of that
_PLACES = 256

_allowed = False


class LeavesSourceError(InputError):
    """A link leads out of what may be read."""


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
        with _Way(folder, place) as way:
            for name in place.way:
                way.go(name)
            descriptor = os.open(".", flags, dir_fd=way.last)
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
    with _Way(path, place) as way:
        for name in place.way:
            way.go(name)
        return way.open(path.name, flags)


def _place(folder: Path) -> Boundary:
    """Return a folder's boundary; a link that a user named is taken as it was at the first look."""
    return _known(folder.absolute(), os.environ.get(SOURCE_ROOTS_VARIABLE, ""))


@lru_cache(_PLACES)
def _known(folder: Path, mounts: str) -> Boundary:
    return boundary(folder, [Path(root) for root in mounts.split(os.pathsep) if root])


class _Way:
    """A way down from a boundary's root; a context manager that closes the folders it went through.

    Args:
        path: what is to be opened, for messages.
        place: where the way begins.
    """

    def __init__(self, path: Path, place: Boundary) -> None:
        self._path = path
        self._place = place
        self._links = 0
        self._target = ""
        self._folders = [os.open(place.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]

    def __enter__(self) -> "_Way":
        return self

    def __exit__(self, *_: object) -> None:
        self._back_to(0)
        os.close(self._folders.pop())

    @property
    def last(self) -> int:
        """The folder that was reached."""
        return self._folders[-1]

    def go(self, name: str) -> None:
        """Go into a folder, or where a link leads that stands in its place."""
        descriptor = self._follow(deque([name]), _FOLDER)
        if descriptor is not None:
            self._folders.append(descriptor)

    def open(self, name: str, flags: int) -> int:
        """Open a file, or what a link leads to that stands in its place."""
        descriptor = self._follow(deque([name]), flags | os.O_NOFOLLOW)
        return descriptor if descriptor is not None else os.open(".", flags, dir_fd=self.last)

    def _follow(self, rest: deque[str], flags: int) -> int | None:
        """Go all but the last of these names and open that one; None where they end in a folder that was passed."""
        while rest:
            name = rest.popleft()
            if name == "..":
                self._back()
            elif name not in ("", "."):
                target = self._link(name)
                if target is not None:
                    self._replace(rest, target)
                elif any(part not in ("", ".") for part in rest):
                    self._folders.append(self._open(name, _FOLDER))
                else:
                    return self._open(name, flags)
        return None

    def _open(self, name: str, flags: int) -> int:
        if len(self._folders) == 1 and name in self._place.closed:
            raise self._leaves(name)
        try:
            return os.open(name, flags, dir_fd=self.last)
        except OSError as error:
            raise self._named(error) from None

    def _link(self, name: str) -> str | None:
        """Return what a link says; None where the name is not one's."""
        try:
            return os.readlink(name, dir_fd=self.last)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise self._named(error) from None
            return None

    def _named(self, error: OSError) -> OSError:
        """Return an error that names what was asked for, not a step on the way."""
        return OSError(error.errno, error.strerror, str(self._path))

    def _replace(self, rest: deque[str], target: str) -> None:
        """Go on where a link says."""
        self._links += 1
        self._target = target
        if self._links > _MOST_LINKS:
            raise self._named(OSError(errno.ELOOP, os.strerror(errno.ELOOP)))
        goal = PurePath(target)
        if goal.is_absolute():
            if not goal.is_relative_to(self._place.root):
                raise self._leaves(target)
            self._back_to(0)
            goal = goal.relative_to(self._place.root)
        rest.extendleft(reversed(goal.parts))

    def _back(self) -> None:
        if len(self._folders) == 1:
            raise self._leaves("..")
        self._back_to(len(self._folders) - 2)

    def _back_to(self, depth: int) -> None:
        while len(self._folders) > depth + 1:
            os.close(self._folders.pop())

    def _leaves(self, way: str) -> LeavesSourceError:
        return LeavesSourceError(
            "LinkLeavesSource",
            f"{self._path} leads out of {self._place.root}, which is all that is read of this source: it is a link, or "
            f"lies behind one, to {self._target or way}; copy what is meant there (cp -L); a command of your own may "
            "allow it by --allow-links",
        )
