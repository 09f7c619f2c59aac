"""The container's termination message: one JSON object in the file that Kubernetes reads."""

import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from vicuna_contract.names import TERMINATION_LOG_VARIABLE
from vicuna_contract.termination import Failed, encode
from vicuna_server.errors import VicunaError

__all__ = ["failure_message", "keeping_output", "write_termination_message"]

_DEFAULT_PATH = Path("/dev/termination-log")
_LOG_CHARACTERS = 1000
_printed = deque[str](maxlen=100)


@contextmanager
def keeping_output() -> Iterator[None]:
    """Keep the last printed lines for the message of a failure; only where a message will be written.

    The kubelet falls back to a container's last lines only where it wrote no message.
    """
    _printed.clear()
    if _path() is None:
        yield
        return
    with redirect_stdout(_Copied(sys.stdout)), redirect_stderr(_Copied(sys.stderr)):
        yield


class _Copied:
    """A stream whose last writes are kept."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        _printed.append(text[-_LOG_CHARACTERS:])
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def failure_message(error: VicunaError) -> dict[str, object]:
    """Return the message of a failure, with the lines printed before it."""
    return Failed(error.reason, error.message, error.retryable, _end_of("".join(_printed).strip())).fields()


def _end_of(text: str) -> str:
    end = text[-_LOG_CHARACTERS:]
    return end if len(end) == len(text) else end.partition("\n")[2] or end


def write_termination_message(message: Mapping[str, object]) -> None:
    """Write the message as JSON of at most 3 KiB; never raise.

    The file is the one in `VICUNA_TERMINATION_LOG` (created if missing), else `/dev/termination-log` if it exists, as
    in a pod; else nothing is written. For a message that is too long, `log` is left out, then `message` is shortened.

    Args:
        message: `reason`, `message`, `retryable` and perhaps `log`, or a success's own fields.
    """
    with suppress(OSError, TypeError, ValueError):
        if (path := _path()) is not None:
            path.write_bytes(encode(message))


def _path() -> Path | None:
    named = os.environ.get(TERMINATION_LOG_VARIABLE)
    if named:
        return Path(named)
    return _DEFAULT_PATH if _DEFAULT_PATH.is_file() else None
