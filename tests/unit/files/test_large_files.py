"""Reading and writing past the page cache: the same bytes at every place, and where it cannot be done."""

import errno
import fcntl
import hashlib
import os
import random
import threading
from collections.abc import Callable
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import pytest

from vicuna_server.artifacts.digests import digest_files, hash_file
from vicuna_server.errors import InterruptedRunError
from vicuna_server.files.buffers import new_buffer
from vicuna_server.files.data_file import LocalFile
from vicuna_server.files.input_file import ROOM, InputFile
from vicuna_server.files.output_file import OutputFile
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent

_SIZE = 5 * PAGESIZE + 123
_EDGES = (0, 1, 8, PAGESIZE - 1, PAGESIZE, PAGESIZE + 1, 3 * PAGESIZE - 8, _SIZE - 1, _SIZE)

Refuse = Callable[[str, int, Callable[..., bool]], None]


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    content = random.Random(1).randbytes(_SIZE)
    (tmp_path / "in").write_bytes(content)
    return content


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Let a system call fail as on another file system, where a condition on its arguments holds."""

    def install(name: str, number: int, condition: Callable[..., bool]) -> None:
        module = fcntl if name == "fcntl" else os
        real = getattr(module, name)

        def call(*args: Any, **options: Any) -> Any:
            if condition(*args):
                raise OSError(number, os.strerror(number))
            return real(*args, **options)

        monkeypatch.setattr(module, name, call)

    return install


def _is_direct(descriptor: int) -> bool:
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)


def _forget(path: Path) -> None:
    """Have the file dropped from the page cache; the system keeps a page for as long as it is busy with it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read_everywhere(path: Path, content: bytes) -> None:
    file = InputFile(path)
    for start in _EDGES:
        for stop in _EDGES:
            if start < stop:
                _forget(path)
                for _ in ("not cached", "perhaps cached"):
                    buffer = new_buffer(stop - start + ROOM)
                    assert file.read(buffer, start, stop - start) == content[start:stop], (start, stop)
    file.close()


def test_every_stretch_is_read_as_it_is(tmp_path: Path, content: bytes) -> None:
    _read_everywhere(tmp_path / "in", content)


def test_what_is_cached_in_part_is_read_from_both(tmp_path: Path, content: bytes) -> None:
    _forget(tmp_path / "in")
    with (tmp_path / "in").open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        file.read(2 * PAGESIZE)
    assert InputFile(tmp_path / "in").read(new_buffer(_SIZE + ROOM), 0, _SIZE) == content


@pytest.mark.parametrize("cached", [True, False])
def test_what_is_not_cached_is_read_past_the_cache(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    """Whether it is cached is answered here: the system keeps and drops pages when it likes."""
    real, direct = os.preadv, 0

    def preadv(descriptor: int, places: list[memoryview], offset: int, flags: int = 0) -> int:
        nonlocal direct
        if flags == os.RWF_NOWAIT and not cached:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        count = real(descriptor, places, offset, flags & ~os.RWF_NOWAIT)
        direct += count if _is_direct(descriptor) else 0
        return count

    monkeypatch.setattr(os, "preadv", preadv)
    assert InputFile(tmp_path / "in").read(new_buffer(_SIZE + ROOM), 0, _SIZE) == content
    assert direct == (0 if cached else _SIZE)


def test_several_places_are_filled_in_order(tmp_path: Path, content: bytes) -> None:
    view = memoryview(bytearray(2500))
    places = [view[place : place + 1] for place in range(0, 2500, 2)] + [view[:0]]
    InputFile(tmp_path / "in").scatter(places, 7)
    assert bytes(view[::2]) == content[7 : 7 + 1250]


def test_the_end_of_a_file_is_told(tmp_path: Path, content: bytes) -> None:
    file = InputFile(tmp_path / "in")
    with pytest.raises(EOFError):
        file.read(new_buffer(200 + ROOM), len(content) - 100, 200)
    with pytest.raises(EOFError):
        file.scatter([memoryview(bytearray(200))], len(content) - 100)


def test_no_direct_reading(tmp_path: Path, content: bytes, refuse: Refuse) -> None:
    refuse("open", errno.EINVAL, lambda _, flags, *more: bool(flags & os.O_DIRECT))
    _read_everywhere(tmp_path / "in", content)


def test_direct_reading_that_is_refused_later(tmp_path: Path, content: bytes, refuse: Refuse) -> None:
    refuse("preadv", errno.EINVAL, lambda descriptor, *more: _is_direct(descriptor))
    _read_everywhere(tmp_path / "in", content)


def test_a_file_system_that_does_not_tell_what_is_cached(tmp_path: Path, content: bytes, refuse: Refuse) -> None:
    refuse("preadv", errno.EOPNOTSUPP, lambda _, places, offset, flags=0: flags == os.RWF_NOWAIT)
    _read_everywhere(tmp_path / "in", content)


def test_a_failing_disk_is_told(tmp_path: Path, content: bytes, refuse: Refuse) -> None:
    refuse("preadv", errno.EIO, lambda *_: True)
    with pytest.raises(OSError, match="Input/output error"):
        InputFile(tmp_path / "in").read(new_buffer(100 + ROOM), 0, len(content[:100]))


def _write(path: Path, content: bytes) -> OutputFile:
    file = OutputFile(path)
    for start in range(0, len(content), 2 * PAGESIZE):
        part = content[start : start + 2 * PAGESIZE]
        buffer = new_buffer(len(part))
        buffer[:] = part
        file.append(buffer)
    os.close(file.descriptor)
    return file


@pytest.mark.parametrize("size", [0, 1, PAGESIZE, PAGESIZE + 1, 4 * PAGESIZE, _SIZE])
def test_every_size_is_written_as_it_is(tmp_path: Path, content: bytes, size: int) -> None:
    _write(tmp_path / "out", content[:size])
    assert (tmp_path / "out").read_bytes() == content[:size]


def test_whole_pages_are_written_past_the_cache(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = os.write, []

    def write(descriptor: int, data: memoryview) -> int:
        written.append((_is_direct(descriptor), len(data)))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    _write(tmp_path / "out", content)
    assert written == [(True, 2 * PAGESIZE), (True, 2 * PAGESIZE), (True, PAGESIZE), (False, 123)]


@pytest.mark.parametrize("call", ["fcntl", "write"])
def test_no_direct_writing(tmp_path: Path, content: bytes, refuse: Refuse, call: str) -> None:
    if call == "fcntl":
        refuse("fcntl", errno.EINVAL, lambda _, command, *more: command == fcntl.F_SETFL and more == (os.O_DIRECT,))
    else:
        refuse("write", errno.EINVAL, lambda descriptor, _: _is_direct(descriptor))
    _write(tmp_path / "out", content)
    assert (tmp_path / "out").read_bytes() == content


def test_a_write_that_is_refused_either_way_is_told(tmp_path: Path, content: bytes, refuse: Refuse) -> None:
    refuse("write", errno.EINVAL, lambda *_: True)
    with pytest.raises(OSError, match="Invalid argument"):
        _write(tmp_path / "out", content)


def test_a_file_that_is_there_is_not_touched(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FileExistsError):
        OutputFile(tmp_path / "in")
    assert (tmp_path / "in").read_bytes() == content


@pytest.mark.parametrize("size", [0, 1, 1000, 8 * 1024 * 1024, 24 * 1024 * 1024 + 5])
def test_a_hash_is_of_every_byte(tmp_path: Path, size: int) -> None:
    block = random.Random(2).randbytes(10**6 + 3)
    content = (block * (size // len(block) + 1))[:size]
    (tmp_path / "in").write_bytes(content)
    control = Control(Silent(), threading.Event())
    assert hash_file(LocalFile(tmp_path / "in"), control.advance) == hashlib.sha256(content).hexdigest()


def test_hashing_ends_with_a_signal(tmp_path: Path, content: bytes) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError):
        digest_files([LocalFile(tmp_path / "in")] * 5, Control(Silent(), stop).advance)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("merge-")]
