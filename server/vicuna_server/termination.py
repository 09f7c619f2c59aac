"""The container's last words: one JSON object where Kubernetes looks for a termination message."""

import json
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from vicuna_server.errors import VicunaError

__all__ = ["MAX_BYTES", "failure_message", "keeping_output", "write_termination_message"]

MAX_BYTES = 3072
"""Kubernetes cuts at 4096 bytes per container; staying below keeps the JSON whole."""

_DEFAULT_PATH = Path("/dev/termination-log")
_LOG_CHARACTERS = 1000
_printed = deque[str](maxlen=100)


@contextmanager
def keeping_output() -> Iterator[None]:
    """Keep what is printed last meanwhile, for the message of a failure; nothing where there will be none.

    The kubelet falls back to a container's last lines only where it wrote no message.
    """
    _printed.clear()
    if _path() is None:
        yield
        return
    with redirect_stdout(_Copied(sys.stdout)), redirect_stderr(_Copied(sys.stderr)):
        yield


class _Copied:
    """A stream of which the last pieces are kept."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        _printed.append(text[-_LOG_CHARACTERS:])
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def failure_message(error: VicunaError) -> dict[str, object]:
    """Return what to write of a failure, with the lines printed before it."""
    message: dict[str, object] = {"reason": error.reason, "message": error.message, "retryable": error.retryable}
    lines = _end_of("".join(_printed).strip())
    return {**message, "log": lines} if lines else message


def _end_of(text: str) -> str:
    end = text[-_LOG_CHARACTERS:]
    return end if len(end) == len(text) else end.partition("\n")[2] or end


def write_termination_message(message: Mapping[str, object]) -> None:
    """Write the message as JSON of at most 3 KiB; never raise.

    The file is the one named by `VICUNA_TERMINATION_LOG` (made if missing), else `/dev/termination-log` where
    that is an existing file, as in a pod. Elsewhere nothing is written. Where that is too much, `log` is left out,
    then `message` is shortened.

    Args:
        message: `reason`, `message`, `retryable` and perhaps `log`, or a success's own fields.
    """
    with suppress(OSError, TypeError, ValueError):
        if (path := _path()) is not None:
            path.write_bytes(_encode(dict(message)))


def _path() -> Path | None:
    named = os.environ.get("VICUNA_TERMINATION_LOG")
    if named:
        return Path(named)
    return _DEFAULT_PATH if _DEFAULT_PATH.is_file() else None


def _encode(message: dict[str, object]) -> bytes:
    data = _dump(message)
    if len(data) <= MAX_BYTES:
        return data
    message.pop("log", None)
    data = _dump(message)
    text = str(message.get("message", ""))
    # Cut in proportion, at least one character a turn: bytes per character vary.
    while len(data) > MAX_BYTES and text:
        text = text[: min(len(text) - 1, len(text) * MAX_BYTES // len(data))]
        data = _dump({**message, "message": text + "…"})
    if len(data) > MAX_BYTES:
        data = _dump({key: message[key] for key in ("reason", "retryable") if key in message})
    return data


def _dump(message: dict[str, object]) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode("utf-8", errors="replace")
