"""Child processes of a local run: none outlives its parent, and each gets its grace period."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from vicuna_contract.exits import ExitCode
from vicuna_operator.errors import LocalRunError
from vicuna_operator.local.translate import LocalCommand

__all__ = ["Interrupted", "child", "find", "interruptible", "one_ended", "start", "stop", "undisturbed"]

_PR_SET_PDEATHSIG = 1  # prctl(2)


class Interrupted(BaseException):
    """The user or the system asked the run to end (SIGINT, SIGTERM)."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Interrupted` inside the block."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Leave SIGINT to the program in the foreground; a handler, unlike SIG_IGN, is not inherited by it."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def start(command: LocalCommand, extra_env: Mapping[str, str], *, read_output: bool) -> subprocess.Popen[str]:
    """Start a child in a session of its own, so that a terminal's Ctrl-C reaches only us.

    Raises:
        LocalRunError: the program is not installed.
    """
    program = find(command.argv[0], "install vicuna-operator[server]")
    return subprocess.Popen(  # noqa: S603  # what resources/ rendered
        [program, *command.argv[1:]],
        env={**os.environ, **command.env, **extra_env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if read_output else None,
        text=True,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # no threads here
    )


@contextlib.contextmanager
def child(process: subprocess.Popen[str], grace_seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Stop the process when the block ends, however it ends."""
    try:
        yield process
    finally:
        stop(process, grace_seconds)
        if process.stdout is not None:
            process.stdout.close()


def stop(process: subprocess.Popen[str], grace_seconds: float) -> None:
    """Ask a child to end, wait for it, and kill it after `grace_seconds` or a second interrupt."""
    if process.poll() is None:
        process.terminate()
        with interruptible():
            try:
                process.wait(grace_seconds)
            except (subprocess.TimeoutExpired, Interrupted):
                process.kill()
    process.wait()


def one_ended(*processes: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """Wait until one of these children has ended, and return it."""
    while True:
        for process in processes:
            if process.poll() is not None:
                return process
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # its state stays for `poll`


def find(program: str, hint: str) -> str:
    """Return the path of a program, beside Python or on PATH.

    Raises:
        LocalRunError: it is not there; `hint` is the next step.
    """
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise LocalRunError(f"{program} is not installed; {hint}", ExitCode.UNREACHABLE)
    return found


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
