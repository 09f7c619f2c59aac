"""A process of ours for work on what clients or models wrote: unlike a thread, it can be stopped and limited.

It is started when it is first asked, and again after a limit has ended it.
"""

import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from vicuna_server.engine.child_process import read_frame, write_frame
from vicuna_server.errors import OverloadedError

__all__ = ["Child"]

START_SECONDS = 120.0
"""For the process to come up, which takes 0.1 s of processor time."""
WAIT_SECONDS = 30.0
"""For one answer by the clock; the process limits its own processor time."""
SECONDS_AFTER_ONE = 0.5
"""Of processor time for one question, once one has used up its time: similar ones may follow, and all others wait for
them."""
MOST_ANSWER = 64 * 2**20
"""Bytes of an answer; no context holds so many."""
_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


class Child:
    """One process. One call at a time.

    Args:
        module: What it runs, which calls `child_process.work`.
        purpose: What it is for, in messages: "the chat template".
        seconds: Of processor time for one question, until one has used them up.
        first: What else it is told when it starts.
    """

    def __init__(self, module: str, purpose: str, seconds: float, first: Mapping[str, Any] | None = None) -> None:
        self.seconds = seconds
        self.process: subprocess.Popen[bytes] | None = None
        self._module = module
        self._purpose = purpose
        self._first = dict(first or {})
        self._end: weakref.finalize[..., Any] | None = None

    def ask(self, value: Mapping[str, Any]) -> Any:
        """Return the answer; None where a limit has ended the process: the next call starts another.

        Raises:
            OverloadedError: The process cannot be started.
        """
        answer = _exchange(self._started(), value, WAIT_SECONDS)
        if answer is None or "limit" in answer:
            self.close()  # its memory may still be full
        if answer is None:
            self.seconds = min(self.seconds, SECONDS_AFTER_ONE)
        return answer

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self._end is not None:
            self._end()
        self.process = self._end = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is not None and self.process.poll() is None:
            return self.process
        self.close()
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            process = subprocess.Popen(  # noqa: S603  # a module of ours
                [sys.executable, "-P", "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # a Ctrl-C in a terminal is for the server, which drains
            )
        except OSError as error:
            raise OverloadedError(
                f"the process for {self._purpose} cannot be started ({error.strerror}); try again in a moment",
                status=503,
            ) from error
        self.process, self._end = process, weakref.finalize(self, _stop, process)
        if _exchange(process, {**self._first, "seconds": self.seconds}, START_SECONDS) is None:
            self.close()
            raise OverloadedError(f"the process for {self._purpose} did not start; try again in a moment", status=503)
        return process


def _exchange(process: subprocess.Popen[bytes], value: Mapping[str, Any], seconds: float) -> Any:
    """Send a value and return the response; None where the process ended meanwhile."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    guard = threading.Timer(seconds, process.kill)
    guard.daemon = True
    guard.start()
    try:
        write_frame(process.stdin, value)
        return read_frame(process.stdout, MOST_ANSWER)
    except (OSError, ValueError):
        return None
    finally:
        guard.cancel()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # data may be left that cannot be written
                pipe.close()
    process.wait()
