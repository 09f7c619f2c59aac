"""The keeper of a program with processes of its own: none of them is left, whoever dies first."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

KEEPER = [sys.executable, "-m", "vicuna_operator.local.keeper"]
# As vLLM: a main process, and one below it that has left the group and takes no notice of SIGTERM.
PROGRAM = """
import os, signal, subprocess, sys, time
def end(*_):
    time.sleep({drains})
    os._exit({code})
signal.signal(signal.SIGTERM, end)
below = "import os, signal; os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); print(); signal.pause()"
child = subprocess.Popen([sys.executable, "-u", "-c", below], stdout=subprocess.PIPE)
child.stdout.readline()
print(os.getpid(), child.pid, flush=True)
signal.pause()
"""
PARENT = """
import subprocess, sys, signal
from vicuna_operator.local.process import start
from vicuna_operator.local.translate import LocalCommand
start(LocalCommand(sys.argv[1:], {}), {}, read_output=False)
signal.pause()
"""


def program(drains: float = 0, code: int = 0) -> list[str]:
    return [sys.executable, "-u", "-c", PROGRAM.format(drains=drains, code=code)]


@pytest.fixture
def pids() -> Iterator[list[int]]:
    """Of the program and of the process below it."""
    found: list[int] = []
    yield found
    for pid in found:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def started(pids: list[int], *words: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            pids += map(int, process.stdout.readline().split())
            assert len(pids) == 2
            yield process
        finally:
            process.kill()


def gone(pids: list[int]) -> bool:
    there = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return not psutil.wait_procs(there, timeout=20)[1]


def test_a_program_that_is_asked_to_end_has_time_for_it_and_its_exit_code_is_told(pids: list[int]) -> None:
    with started(pids, *KEEPER, *program(drains=0.2, code=7)) as keeper:
        keeper.terminate()
        assert keeper.wait(20) == 7
        assert gone(pids)


def test_what_is_below_a_program_that_is_killed_goes_too(pids: list[int]) -> None:
    with started(pids, *KEEPER, *program()) as keeper:
        os.kill(pids[0], signal.SIGKILL)
        assert keeper.wait(20) == 128 + signal.SIGKILL
        assert gone(pids)


def test_a_program_that_does_not_end_is_killed(pids: list[int]) -> None:
    words = "import sys; from vicuna_operator.local.keeper import run; sys.exit(run(sys.argv[1:], 0.2))"
    with started(pids, sys.executable, "-c", words, *program(drains=600)) as keeper:
        keeper.terminate()
        assert keeper.wait(20) == 128 + signal.SIGKILL
        assert gone(pids)


def test_when_its_parent_is_killed_all_go(pids: list[int]) -> None:
    with started(pids, sys.executable, "-c", PARENT, *KEEPER, *program()) as parent:
        keepers = [process.pid for process in psutil.Process(parent.pid).children()]
        parent.kill()
        assert len(keepers) == 1
        assert gone([*pids, *keepers])


def test_a_program_that_is_not_there_is_an_error() -> None:
    done = subprocess.run([*KEEPER, "/no/such/program"], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert "/no/such/program" in done.stderr
