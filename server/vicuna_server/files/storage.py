"""The volume that takes the result: room on it, and what its failures mean."""

import contextlib
import errno
import os
import shutil
import time
from pathlib import Path

from vicuna_server.errors import InputError, OutOfSpaceError, UnreachableError, VicunaError
from vicuna_server.problems import Problems
from vicuna_server.wording import readable_size

__all__ = [
    "FULL",
    "check_space",
    "explain",
    "fsync_file",
    "fsync_folder",
    "measure",
    "require_space",
    "volume_time",
    "write_all",
    "write_file",
]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST)


def require_space(root: Path, needed: int) -> None:
    """Raise `OutOfSpaceError` when fewer than `needed` bytes are free."""
    problems = Problems()
    check_space(root, needed, problems)
    problems.raise_if_any()


def check_space(root: Path, needed: int, problems: Problems) -> None:
    """Note `OutOfSpace` when fewer than `needed` bytes are free."""
    free = shutil.disk_usage(root).free
    if needed > free:
        problems.add(
            "OutOfSpace",
            f"{root} has {readable_size(free)} free and needs {readable_size(needed)} ({needed} bytes); "
            "give it a larger volume or make room",
        )


def volume_time(root: Path) -> float:
    """Return what time it is on the volume's clock, in seconds as file times are; the folder's own time is set.

    Where that may not be set nothing can be removed either, and this machine's clock will do.
    """
    try:
        os.utime(root)
    except OSError:
        return time.time()
    return root.stat().st_mtime


def measure(folder: Path) -> tuple[int, float]:
    """Return the bytes of all files below a folder, and when the youngest of them, or a folder, was last changed."""
    size, changed = 0, 0.0
    for place, _, names in os.walk(folder):
        for path in (place, *(os.path.join(place, name) for name in names)):
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                size += status.st_size if path != place else 0
                changed = max(changed, status.st_mtime)
    return size, changed


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of it: a system call may write less than it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_file(path: Path, content: bytes) -> None:
    """Write one small file that is not there yet, and make it durable."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_all(descriptor, content)
        fsync_file(descriptor, path)
    finally:
        os.close(descriptor)


def fsync_file(descriptor: int, path: Path) -> None:
    """Make a file durable; one that could not be is removed.

    Read back it would look whole, since the kernel forgets which of its pages were not written.
    """
    try:
        os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def fsync_folder(path: Path) -> None:
    """Make a folder's names durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explain(error: OSError, root: Path | None) -> VicunaError:
    """Say what a failed system call means to the user whose output folder is `root`; None: nothing is written."""
    named = Path(error.filename) if isinstance(error.filename, str) else None
    where = named or root or "a file"
    if error.errno in FULL:
        return OutOfSpaceError("OutOfSpace", f"{root or where} became full; give it a larger volume or make room")
    if error.errno in _REFUSED:
        return _refusal(f"{where}: {os.strerror(error.errno)}", named or root, root)
    return UnreachableError("StorageFailed", f"{where}: {error.strerror or error}; check the volume and run again")


def _refusal(what: str, path: Path | None, root: Path | None) -> InputError:
    """Return the error for a path that may not be used; None: it is not known."""
    if path is not None and root is not None and _related(path, root):
        return InputError("OutputNotWritable", f"{what}; the output must be a folder this user may write")
    return InputError("SourceForbidden", f"{what}; let this user read the source")


def _related(one: Path, other: Path) -> bool:
    """Return whether one of two paths is the other, or holds it."""
    one, other = one.absolute(), other.absolute()
    return one.is_relative_to(other) or other.is_relative_to(one)
