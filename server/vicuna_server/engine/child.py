"""A process of ours for work on what clients or models wrote: unlike a thread, it can be stopped and limited.

It is started when it is first asked, and again after a limit has ended it.
"""

import os
import socket
import subprocess
import sys
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
"""For one answer by the clock: so long its next bytes may take. The process limits its own processor time."""
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
        self._stream: _Stream | None = None
        self._end: weakref.finalize[..., Any] | None = None

    def ask(self, value: Mapping[str, Any]) -> Any:
        """Return the answer; None where a limit has ended the process: the next call starts another.

        Raises:
            OverloadedError: The process cannot be started.
        """
        answer = self._started().exchange(value, WAIT_SECONDS)
        if answer is None or "limit" in answer:
            self.close()  # its memory may still be full
        if answer is None:
            self.seconds = min(self.seconds, SECONDS_AFTER_ONE)
        return answer

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self._end is not None:
            self._end()
        self.process = self._stream = self._end = None

    def _started(self) -> "_Stream":
        if self._stream is not None and self.process is not None and self.process.poll() is None:
            return self._stream
        self.close()
        try:
            process, stream = _start(self._module)
        except OSError as error:
            raise OverloadedError(
                f"the process for {self._purpose} cannot be started ({error.strerror}); try again in a moment",
                status=503,
            ) from error
        self.process, self._stream = process, stream
        self._end = weakref.finalize(self, _stop, process, stream)
        if stream.exchange({**self._first, "seconds": self.seconds}, START_SECONDS) is None:
            self.close()
            raise OverloadedError(f"the process for {self._purpose} did not start; try again in a moment", status=503)
        return stream


class _Stream:
    """Our end of what a process has as its standard input and output; unlike a pipe's, its calls can time out."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._source, self._sink = end.makefile("rb"), end.makefile("wb")

    def exchange(self, value: Mapping[str, Any], seconds: float) -> Any:
        """Send a value and return the response; None where the process has ended, or sends nothing for so long."""
        self._end.settimeout(seconds)
        try:
            write_frame(self._sink, value)
            return read_frame(self._source, MOST_ANSWER)
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """Close it, whatever is left in it."""
        with suppress(OSError):  # data may be left that cannot be written
            self._sink.close()
        self._source.close()
        self._end.close()


def _start(module: str) -> tuple[subprocess.Popen[bytes], _Stream]:
    """Start a process that runs a module of ours.

    Raises:
        OSError: It cannot be started.
    """
    ours, theirs = socket.socketpair()
    stream = _Stream(ours)
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: S603  # a module of ours
                [sys.executable, "-P", "-m", module],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                start_new_session=True,  # a Ctrl-C in a terminal is for the server, which drains
            )
        except OSError:
            stream.close()
            raise
    return process, stream


def _stop(process: subprocess.Popen[bytes], stream: _Stream) -> None:
    process.kill()
    stream.close()
    process.wait()
