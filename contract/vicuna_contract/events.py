"""The lines that a merge prints for programs: one JSON object each, told apart by `event`."""

import json
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["DONE", "PROGRESS", "WARNING", "done", "last_progress", "progress", "read_event", "warning"]

PROGRESS: Final = "progress"
DONE: Final = "done"
WARNING: Final = "warning"


def progress(done: int, total: int, per_second: int) -> dict[str, object]:
    """Return the line that says how many bytes of how many are done, and how fast (bytes a second)."""
    return {"event": PROGRESS, "bytesDone": done, "bytesTotal": total, "bytesPerSecond": per_second}


def warning(reason: str, message: str) -> dict[str, object]:
    """Return the line that says what is odd but stops nothing."""
    return {"event": WARNING, "reason": reason, "message": message}


def done(artifact_id: str, path: str) -> dict[str, object]:
    """Return the last line of a merge that left an artifact."""
    return {"event": DONE, "artifactID": artifact_id, "path": path}


def read_event(line: str) -> Mapping[str, Any] | None:
    """Read one line; None where it is not an event: other text, or a line cut short. Never raises."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def last_progress(text: str) -> Mapping[str, Any] | None:
    """Return the last line of a merge container's log that tells how far it is; others, and torn ones, do not count."""
    for line in reversed(text.splitlines()):
        event = read_event(line)
        if event is not None and event["event"] in (PROGRESS, DONE):
            return event
    return None
