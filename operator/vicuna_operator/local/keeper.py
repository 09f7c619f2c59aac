"""Runs a program that has processes of its own, such as vLLM, and leaves none of them behind, however it ends.

    python -m vicuna_operator.local.keeper PROGRAM [ARGUMENT…]

Orphans below it become its own children (PR_SET_CHILD_SUBREAPER of prctl(2)), also those that left the process group.
It ends with its parent (see `process`), and so does the program, after a grace period.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from vicuna_operator.local.process import Interrupted, interruptible

__all__ = ["GRACE_SECONDS", "run"]

GRACE_SECONDS = 15.0  # vLLM takes up to 12 s to end
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_BY_SIGNAL = 128


def run(words: Sequence[str], grace_seconds: float = GRACE_SECONDS) -> int:
    """Run the program until it ends, or until SIGTERM and its grace period; return its exit code."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    code = _BY_SIGNAL + signal.SIGTERM
    try:
        with interruptible():
            code = _until_it_ends(words, grace_seconds)
    except Interrupted:
        pass  # while it was waited for: the grace period is over
    finally:
        _kill_all()
    return code if code >= 0 else _BY_SIGNAL - code


def _until_it_ends(words: Sequence[str], grace_seconds: float) -> int:
    process = subprocess.Popen(list(words), stdin=subprocess.DEVNULL)  # noqa: S603  # what resources/ rendered
    try:
        return process.wait()
    except Interrupted:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(grace_seconds)
        process.kill()
        return process.wait()


def _kill_all() -> None:
    """Kill all processes below this one; those whose parent is killed become children of this one in turn."""
    while True:
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> Iterator[int]:
    own = str(os.getpid())
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # "PID (NAME) STATE PARENT …"; a name may hold blanks and parentheses
                if (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1] == own:
                    yield int(entry.name)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
