"""Renders one chat template in this process, which has limits of time and memory; `rendering` runs it.

On standard input come the template and then conversations; each is answered on standard output, the template with an
empty object. All are JSON objects in UTF-8 (halves of surrogate pairs as they are), each behind its length in 8 bytes,
the largest first.
"""

import json
import resource
import signal
import struct
import sys
from typing import IO, Any

from vicuna_contract.printable import printable
from vicuna_server.prompts.sandbox import render

__all__ = ["MOST_BYTES", "MOST_SECONDS", "read_frame", "write_frame"]

MOST_BYTES = 256 * 2**20
"""Of memory, 17 MiB of which are there from the start; conversations of 4 MiB need two thirds of the rest at most."""
MOST_SECONDS = 5
"""Of processor time for one conversation; those of 2 048 messages need less than 0.1 s."""
MOST_LETTERS = 300
"""Of a template's error in a message: it may quote the whole prompt."""

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


def _render(template: str, tokens: dict[str, str], asked: dict[str, Any]) -> dict[str, Any]:
    """Return the prompt, or what went wrong and whether a limit did."""
    try:
        text = render(template, tokens=tokens, **asked)
    except (MemoryError, RecursionError) as error:
        return {"limit": "memory" if isinstance(error, MemoryError) else "depth"}
    except Exception as error:  # noqa: BLE001  # a template may raise anything
        return {"fault": printable(str(error) or type(error).__name__)[:MOST_LETTERS]}
    return {"text": text}


def _main() -> None:
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    first = read_frame(source)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    write_frame(sink, {})
    while (asked := read_frame(source)) is not None:
        signal.setitimer(signal.ITIMER_PROF, first["seconds"])  # of processor time; the signal then ends the process
        answer = _render(first["template"], first["tokens"], asked)
        del asked
        try:
            write_frame(sink, answer)
        except MemoryError:  # raised before any byte of it was sent
            write_frame(sink, {"limit": "memory"})
        signal.setitimer(signal.ITIMER_PROF, 0)
        del answer


if __name__ == "__main__":
    _main()
