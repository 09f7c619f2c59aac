"""Runs vLLM as a child, and writes why it ended into the termination message of its container.

This text runs in vLLM's image, as `python3 -c`. A kubelet would take the log's last 2 KiB, and none after exit code 0,
with which vLLM ends when its engine has died. The process that fails is another than the one that ends: its lines are
far above, and the last ones say "See root cause above".
"""

from __future__ import annotations  # the Python of the image may be an older one

import collections
import os
import re
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import IO

MESSAGE_FILE = "/dev/termination-log"
FIRST, LAST = 6, 4  # lines about errors that are kept: the cause stands first, the end last
MOST_OF_A_LINE = 380  # bytes; a kubelet takes 4096 in all
PREFIX = re.compile(rb"^(\(.{1,60}?\) )?([A-Z]+ [-0-9:. ]+\[[^\]]*\] )?")
ERROR = re.compile(rb"(Error|Exception)(: |\(['\"])|out of memory|died unexpectedly|\berror: ")


class Told:
    """What a program prints: passed on, and the lines about errors kept, each once and without tracebacks."""

    def __init__(self) -> None:
        self.first: list[bytes] = []
        self.later: collections.deque[bytes] = collections.deque(maxlen=LAST)
        self.tail: collections.deque[bytes] = collections.deque(maxlen=FIRST + LAST)

    def read(self, pipe: IO[bytes]) -> None:
        """Read to the end."""
        for line in pipe:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            self.add(line.rstrip())

    def add(self, line: bytes) -> None:
        """Take in one line."""
        bare = PREFIX.sub(b"", line)
        self.tail.append(line[:MOST_OF_A_LINE])
        bare = bare[:MOST_OF_A_LINE]
        if ERROR.search(bare) and not bare[:1].isspace() and bare not in self.first and bare not in self.later:
            (self.first if len(self.first) < FIRST else self.later).append(bare)

    def message(self, asked: bool) -> bytes:
        """Return the lines about errors; where there are none, the last ones of a program that nobody asked to end."""
        return b"\n".join([*self.first, *self.later] or ([] if asked else self.tail))


def main(words: list[str], file: str = MESSAGE_FILE) -> int:
    """Return the program's exit code; 128 and the number of a signal that ended it."""
    stops: list[int] = []
    children: list[subprocess.Popen[bytes]] = []
    told = Told()

    def stop(number: int, _: FrameType | None) -> None:
        stops.append(number)
        for each in children:
            each.send_signal(number)

    signal.signal(signal.SIGTERM, stop)
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # noqa: S603
    children.append(child)
    if stops:
        child.terminate()
    reader = threading.Thread(target=told.read, args=[child.stdout], daemon=True)
    reader.start()
    code = child.wait()
    reader.join(2)  # what vLLM has started may outlive it, and keep the pipe open
    try:
        with open(file, "wb") as message:
            message.write(told.message(asked=bool(stops)))  # vLLM may have asked its process group itself
    except OSError as error:
        print(f"{file} cannot be written: {error}", file=sys.stderr)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # without waiting for the reader, which may wait for what vLLM has left behind
