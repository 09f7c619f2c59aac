"""Putting something new in the place of something old under the same name."""

import ctypes
import errno
import os
from pathlib import Path

__all__ = ["exchange"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP)


def exchange(new: Path, old: Path) -> None:
    """Swap two names of one file system, of files or folders.

    In one step where the system can (renameat2 of Linux). Elsewhere, as on NFS, in two: a run killed between them
    leaves nothing under `old`, and what was there as `<new>.broken`. Who has files of the old one open keeps them.

    Raises:
        OSError: a name is not there, or the system refused; both are where they were.
    """
    if not _exchange_at_once(new, old):
        aside = new.with_name(f"{new.name}.broken")
        old.rename(aside)
        try:
            new.rename(old)
        except OSError:
            aside.rename(old)
            raise
        aside.rename(new)


def _exchange_at_once(new: Path, old: Path) -> bool:
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in _UNSUPPORTED:
        raise OSError(number, os.strerror(number), str(new), None, str(old))
    return False
