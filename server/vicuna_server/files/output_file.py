"""A large file written once, from front to back, past the kernel's page cache where the file system can.

Copying gigabytes into the page cache takes as much processor time as everything else in a merge, and pushes out what
others read; O_DIRECT does neither. It wants whole pages in aligned memory (open(2), NOTES). Where a file system
knows no O_DIRECT the same bytes go through the cache.
"""

import errno
import fcntl
import os
from mmap import PAGESIZE
from pathlib import Path

from vicuna_server.files.storage import write_all

__all__ = ["OutputFile"]


class OutputFile:
    """A new file; after an `OSError` from any method it is of no use.

    Args:
        path: must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._direct = True
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_SETFL, os.O_DIRECT)
        except OSError:
            self._direct = False

    def append(self, data: memoryview) -> None:
        """Write bytes that begin a page of memory; only the last of a file may end within one."""
        whole = len(data) // PAGESIZE * PAGESIZE
        self._write_pages(data[:whole])
        if whole < len(data):
            self._use_cache()
            write_all(self.descriptor, data[whole:])

    def _write_pages(self, rest: memoryview) -> None:
        while rest:
            try:
                rest = rest[os.write(self.descriptor, rest) :]
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                self._use_cache()  # the file system accepts the flag but not direct writes

    def _use_cache(self) -> None:
        if self._direct:
            fcntl.fcntl(self.descriptor, fcntl.F_SETFL, 0)
            self._direct = False
