"""A large file read chunk by chunk: from the page cache what is there, the rest past it.

Taking gigabytes into the page cache on their way costs more processor time than adding and hashing them, and pushes
out what others read. O_DIRECT wants whole pages at both ends and aligned memory (open(2), NOTES); RWF_NOWAIT reads
what is cached and nothing else (preadv2(2)). A file system that has neither is read as usual.
"""

import errno
import os
import random
from collections import deque
from collections.abc import Iterable
from itertools import islice
from mmap import PAGESIZE
from pathlib import Path

from vicuna_server.files.beneath import open_file

__all__ = ["ROOM", "InputFile"]

ROOM = 2 * PAGESIZE  # direct reads are whole pages: a buffer for n bytes needs up to a page more at either end
_MOST_PLACES = 1000  # IOV_MAX is 1024 on Linux


class InputFile:
    """A file open for reading. Every method raises `OSError` when reading fails and `EOFError` at its end.

    Args:
        path: of a source's file, opened as `beneath.open_file` does, with what that raises.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = open_file(path)
        self._direct: int | None = None
        try:
            # through the descriptor: the name may lead to another file by now
            same = f"/proc/self/fd/{self._descriptor}"
            self._direct = os.open(same, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
            self._advise(os.POSIX_FADV_RANDOM)  # no readahead: a look at what is cached must not change what is cached
        except OSError:
            self._advise(os.POSIX_FADV_SEQUENTIAL)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._descriptor).st_size

    def read_ahead(self, size: int) -> None:
        """Have the kernel take the first `size` bytes into the page cache, soon."""
        self._advise(os.POSIX_FADV_WILLNEED, size)

    def read(self, buffer: memoryview, offset: int, size: int) -> memoryview:
        """Return `size` bytes at `offset`, somewhere in `buffer`: page-aligned memory of at least `size + ROOM`."""
        place = offset % PAGESIZE
        view = buffer[place : place + size]
        done = self._read_cached(view, offset)
        if done < size:
            done = self._read_past_cache(buffer, offset, done, size)
        self.scatter([view[done:]], offset + done)
        return view

    def scatter(self, places: Iterable[memoryview], offset: int) -> None:
        """Fill several places, one after the other, with the bytes from `offset` on."""
        waiting = deque(place for place in places if place)
        while waiting:
            count = os.preadv(self._descriptor, list(islice(waiting, _MOST_PLACES)), offset)
            if not count:
                raise EOFError
            offset += count
            while waiting and count >= len(waiting[0]):
                count -= len(waiting.popleft())
            if count:
                waiting[0] = waiting[0][count:]

    def close(self) -> None:
        """Close it."""
        self._forgo_direct()
        os.close(self._descriptor)

    def _read_cached(self, view: memoryview, offset: int) -> int:
        try:
            # one random byte first: RWF_NOWAIT starts readahead for what is missing, and that byte alone is then cached
            place = random.randrange(len(view))  # noqa: S311
            os.preadv(self._descriptor, [view[place : place + 1]], offset + place, os.RWF_NOWAIT)
            return os.preadv(self._descriptor, [view], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._forgo_direct()  # no way to ask what is cached: read through the cache
            return 0

    def _read_past_cache(self, buffer: memoryview, offset: int, done: int, size: int) -> int:
        """Read on by whole pages; return how many of the `size` bytes are there."""
        origin = offset - offset % PAGESIZE  # this offset of the file is at the buffer's start
        position = (offset + done) // PAGESIZE * PAGESIZE
        end = -(-(offset + size) // PAGESIZE) * PAGESIZE
        while self._direct is not None and position < end:
            try:
                count = os.preadv(self._direct, [buffer[position - origin : end - origin]], position)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._forgo_direct()
                break
            position += count
            if count % PAGESIZE or not count:
                break  # the file's end
        return min(size, max(done, position - offset))

    def _forgo_direct(self) -> None:
        if self._direct is not None:
            os.close(self._direct)
            self._direct = None
            self._advise(os.POSIX_FADV_SEQUENTIAL)

    def _advise(self, advice: int, size: int = 0) -> None:
        os.posix_fadvise(self._descriptor, 0, size, advice)
