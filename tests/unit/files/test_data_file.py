"""Reading from several files at once."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from support.memory_checkpoints import MemoryFile
from vicuna_server.files.data_file import map_concurrently


@pytest.fixture
def heard() -> Iterator[threading.Event]:
    """Set by SIGTERM, which another thread than the main one takes: the main one's wait is not interrupted by it."""
    event = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    yield event
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    signal.signal(signal.SIGTERM, before)


def test_a_signal_is_heard_while_files_elsewhere_are_read(heard: threading.Event) -> None:
    main, reading = threading.get_ident(), threading.Barrier(4)

    def send() -> None:
        reading.wait()
        while sys._current_frames()[main].f_code.co_name != "wait":
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    def read(_: int) -> bool:
        reading.wait()
        return heard.wait(5)

    sender = threading.Thread(target=send)
    sender.start()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # for this thread and those that it starts
    found = list(map_concurrently(read, range(3), [MemoryFile("a", b"")]))
    sender.join()
    assert found == [True, True, True]


def test_an_error_is_raised_and_what_has_not_begun_is_left_out() -> None:
    begun: list[int] = []

    def read(number: int) -> int:
        begun.append(number)
        if number:
            time.sleep(0.05)  # or all could begin before the first error is seen
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        list(map_concurrently(read, range(1000), [MemoryFile("a", b"")]))
    assert len(begun) < 1000
