"""A container's last words: one JSON object where Kubernetes looks for a termination message."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_BYTES", "Failed", "Merged", "Pruned", "Report", "encode", "read_report"]

MAX_BYTES = 3072
"""Kubernetes cuts at 4096 bytes per container; staying below keeps the JSON whole."""

_MOST_BYTES_OF_AN_ARTIFACT = 2**63


@dataclass(frozen=True)
class Merged:
    """A merge that left an artifact, newly made or found: its resolved kind and template, and its size."""

    artifact_id: str
    kind: str
    chat_template: str
    bytes: int

    def fields(self) -> dict[str, object]:
        """Return the message."""
        return {
            "reason": "Merged",
            "artifactID": self.artifact_id,
            "kind": self.kind,
            "chatTemplate": self.chat_template,
            "bytes": self.bytes,
        }


@dataclass(frozen=True)
class Pruned:
    """A clean-up that is done: how many folders went, and their bytes."""

    count: int
    bytes: int

    def fields(self) -> dict[str, object]:
        """Return the message."""
        return {"reason": "Pruned", "count": self.count, "bytes": self.bytes}


@dataclass(frozen=True)
class Failed:
    """What went wrong, the next step in `message`; `log` has the last lines printed before, if any."""

    reason: str
    message: str
    retryable: bool
    log: str = ""

    def fields(self) -> dict[str, object]:
        """Return the message."""
        told: dict[str, object] = {"reason": self.reason, "message": self.message, "retryable": self.retryable}
        return {**told, "log": self.log} if self.log else told


def encode(message: Mapping[str, object]) -> bytes:
    """Return JSON of at most `MAX_BYTES`: where there is too little room, `log` goes first, then `message` is cut.

    Args:
        message: `fields()` of one of the above.

    Raises:
        TypeError, ValueError: a value has no JSON.
    """
    fields = dict(message)
    data = _dump(fields)
    if len(data) <= MAX_BYTES:
        return data
    fields.pop("log", None)
    data = _dump(fields)
    text = str(fields.get("message", ""))
    # Cut in proportion, at least one character a turn: bytes per character vary.
    while len(data) > MAX_BYTES and text:
        text = text[: min(len(text) - 1, len(text) * MAX_BYTES // len(data))]
        data = _dump({**fields, "message": text + "…"})
    if len(data) > MAX_BYTES:
        data = _dump({key: fields[key] for key in ("reason", "retryable") if key in fields})
    return data


def _dump(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", errors="replace")


@dataclass(frozen=True)
class Report:
    """What a termination message says; a field that it lacks, or has in a wrong form, is None or empty.

    Attributes:
        reason: CamelCase, never empty.
        message: a sentence with the next step.
        retryable: whether trying again may help; None where it does not say.
        log: the container's last lines.
        artifact_id: of a merge.
        bytes: size of a merge's artifact, more than 0.
    """

    reason: str
    message: str = ""
    retryable: bool | None = None
    log: str = ""
    artifact_id: str | None = None
    bytes: int | None = None


def read_report(text: str) -> Report | None:
    """Read a termination message; None when it is text, not the JSON of the contract. Never raises."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("reason"), str) or not said["reason"]:
        return None
    retryable = said.get("retryable")
    return Report(
        reason=said["reason"],
        message=_text(said, "message"),
        retryable=retryable if isinstance(retryable, bool) else None,
        log=_text(said, "log"),
        artifact_id=_text(said, "artifactID") or None,
        bytes=_size(said.get("bytes")),
    )


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    return value if isinstance(value, str) else ""


def _size(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 < value < _MOST_BYTES_OF_AN_ARTIFACT else None  # type: ignore[operator,return-value]
