"""The last word to Kubernetes: a small JSON file that becomes the container's termination message."""

import json
import os
from pathlib import Path
from typing import Any

from vicuna_server.errors import VicunaError

__all__ = ["failure_message", "success_message", "write_termination_message"]

_MOST_BYTES = 3 * 1024
_DEFAULT_PATH = "/dev/termination-log"


def success_message(artifact_id: str, kind: str, chat_template: str, size: int) -> dict[str, Any]:
    """Return the message of a merge that left an artifact, newly made or found."""
    return {
        "reason": "Merged",
        "artifactID": artifact_id,
        "kind": kind,
        "chatTemplate": chat_template,
        "bytes": size,
    }


def failure_message(error: VicunaError) -> dict[str, Any]:
    """Return the message of a merge that failed."""
    return {"reason": error.reason, "message": error.message, "retryable": error.retryable}


def write_termination_message(message: dict[str, Any]) -> None:
    """Write the message, cut to 3 KiB, to $VICUNA_TERMINATION_LOG, else to the file Kubernetes mounts, if any."""
    named = os.environ.get("VICUNA_TERMINATION_LOG")
    path = Path(named or _DEFAULT_PATH)
    if not named and not (path.is_file() and os.access(path, os.W_OK)):
        return
    try:
        path.write_bytes(_fit(message))
    except OSError:
        return  # the exit code and the log still tell; losing this must not change the outcome


def _fit(message: dict[str, Any]) -> bytes:
    data = json.dumps(message, ensure_ascii=False).encode()
    text = str(message.get("message", ""))
    while len(data) > _MOST_BYTES:
        text = text[: -max(1, (len(data) - _MOST_BYTES) // 4)]
        data = json.dumps(message | {"message": text + "…"}, ensure_ascii=False).encode()
    return data
