"""The work of a process that has limits of time and memory; `child` starts and asks it.

On standard input come a first value and then questions; each is answered on standard output, the first with an empty
object. All are JSON objects in UTF-8 (halves of surrogate pairs as they are), each behind its length in 8 bytes, the
largest first.
"""

import json
import resource
import signal
import struct
import sys
from collections.abc import Callable
from typing import IO, Any

__all__ = ["MOST_BYTES", "Answers", "answered", "read_frame", "work", "write_frame"]

MOST_BYTES = 256 * 2**20
"""Of memory, 17 MiB of which are there from the start; conversations of 4 MiB need two thirds of the rest at most."""

Answers = Callable[[Any], dict[str, Any]]
"""Makes the answer to one question."""

_LENGTH = struct.Struct(">Q")


def read_frame(stream: IO[bytes], most: int | None = None) -> Any:
    """Return the next value; None at the end, or where it is longer than `most` bytes.

    Raises:
        ValueError: it is not JSON.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size or (most is not None and _LENGTH.unpack(head)[0] > most):
        return None
    size = _LENGTH.unpack(head)[0]
    data = stream.read(size)
    return json.loads(data.decode("utf-8", "surrogatepass")) if len(data) == size else None


def write_frame(stream: IO[bytes], value: Any) -> None:
    """Write a value that `read_frame` gives back."""
    data = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def work(opened: Callable[[Any], Answers]) -> None:
    """Answer questions until standard input ends.

    An answer of `{"limit": "memory"}` or `{"limit": "depth"}` says which limit a question has met; at the limit of
    time the process ends.

    Args:
        opened: Called with the first value; what it returns makes all answers.
    """
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    first = read_frame(source)
    answers = opened(first)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    write_frame(sink, {})
    while (asked := read_frame(source)) is not None:
        signal.setitimer(signal.ITIMER_PROF, first["seconds"])  # of processor time; the signal then ends the process
        answer = answered(answers, asked)
        del asked
        try:
            write_frame(sink, answer)
        except MemoryError:  # raised before any byte of it was sent
            write_frame(sink, {"limit": "memory"})
        signal.setitimer(signal.ITIMER_PROF, 0)
        del answer


def answered(answers: Answers, asked: Any) -> dict[str, Any]:
    """Return the answer to one question, or which limit it has met."""
    try:
        return answers(asked)
    except (MemoryError, RecursionError) as error:
        return {"limit": "memory" if isinstance(error, MemoryError) else "depth"}
