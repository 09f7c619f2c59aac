"""The container's last words: one JSON object where Kubernetes looks for a termination message."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from vicuna_server.errors import VicunaError

__all__ = ["MAX_BYTES", "failure_message", "write_termination_message"]

MAX_BYTES = 3072
"""Kubernetes cuts at 4096 bytes per container; staying below keeps the JSON whole."""

_DEFAULT_PATH = Path("/dev/termination-log")


def failure_message(error: VicunaError) -> dict[str, object]:
    """Return what to write of a failure."""
    return {"reason": error.reason, "message": error.message, "retryable": error.retryable}


def write_termination_message(message: Mapping[str, object]) -> None:
    """Write the message as JSON of at most 3 KiB; never raise.

    The file is the one named by `VICUNA_TERMINATION_LOG` (made if missing), else `/dev/termination-log` where
    that is an existing file, as in a pod. Elsewhere nothing is written. A long `message` text is shortened.

    Args:
        message: `reason`, `message`, `retryable`, or a success's own fields.
    """
    with suppress(OSError, TypeError, ValueError):
        named = os.environ.get("VICUNA_TERMINATION_LOG")
        path = Path(named) if named else _DEFAULT_PATH
        if not named and not path.is_file():
            return
        path.write_bytes(_encode(dict(message)))


def _encode(message: dict[str, object]) -> bytes:
    data = _dump(message)
    if len(data) <= MAX_BYTES:
        return data
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
