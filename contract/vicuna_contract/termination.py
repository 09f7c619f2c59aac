"""A container's termination message: one JSON object where Kubernetes looks for it."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vicuna_contract.heads import Heads
from vicuna_contract.printable import printable
from vicuna_contract.reasons import FORMER_REASONS, MERGED, PRUNED
from vicuna_contract.templates import is_resolved

__all__ = ["MAX_BYTES", "Failed", "Merged", "Pruned", "Report", "digest_of", "encode", "is_digest", "read_report"]

MAX_BYTES = 3072
"""Kubernetes cuts at 4096 bytes per container; staying below keeps the JSON whole."""

_MOST_BYTES_OF_AN_ARTIFACT = 2**63
_ARTIFACT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_LETTERS = 500  # of one warning, where not all have room


@dataclass(frozen=True)
class Merged:
    """A merge that left an artifact, newly made or found.

    Attributes:
        artifact_id: its name.
        kind: the resolved kind of delta.
        chat_template: the resolved one.
        bytes: the artifact's size.
        warnings: about it, pairs of reason and sentence, the most important first.
        digest: 64 hex digits over its files, see `digest_of`; empty: not reported.
        heads: of its model; None: its config does not say.
    """

    artifact_id: str
    kind: str
    chat_template: str
    bytes: int
    warnings: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    heads: Heads | None = None

    def fields(self) -> dict[str, object]:
        """Return the message."""
        warnings = [{"reason": reason, "message": message} for reason, message in self.warnings]
        fields: dict[str, object] = {
            "reason": MERGED,
            "artifactID": self.artifact_id,
            "kind": self.kind,
            "chatTemplate": self.chat_template,
            "bytes": self.bytes,
        }
        fields |= {"digest": self.digest} if self.digest else {}
        if self.heads is not None:
            fields |= {"attentionHeads": self.heads.attention, "keyValueHeads": self.heads.key_value}
        return {**fields, "warnings": warnings} if warnings else fields


@dataclass(frozen=True)
class Pruned:
    """A clean-up that is done: how many folders went, and their bytes."""

    count: int
    bytes: int

    def fields(self) -> dict[str, object]:
        """Return the message."""
        return {"reason": PRUNED, "count": self.count, "bytes": self.bytes}


@dataclass(frozen=True)
class Failed:
    """What went wrong, the next step in `message`; `log` has the last lines printed before, if any."""

    reason: str
    message: str
    retryable: bool
    log: str = ""

    def fields(self) -> dict[str, object]:
        """Return the message."""
        fields: dict[str, object] = {"reason": self.reason, "message": self.message, "retryable": self.retryable}
        return {**fields, "log": self.log} if self.log else fields


def encode(message: Mapping[str, object]) -> bytes:
    """Return JSON of at most `MAX_BYTES`: where there is too little room, `log` goes first, then `message` is cut.

    Of `warnings` the last go, and of what is left long sentences are cut.

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
    fields = _with_fewer_warnings(fields)
    data = _dump(fields)
    text = str(fields.get("message", ""))
    # Cut in proportion, at least one character a turn: bytes per character vary.
    while len(data) > MAX_BYTES and text:
        text = text[: min(len(text) - 1, len(text) * MAX_BYTES // len(data))]
        data = _dump({**fields, "message": text + "…"})
    if len(data) > MAX_BYTES:
        data = _dump({key: fields[key] for key in ("reason", "retryable") if key in fields})
    return data


def _with_fewer_warnings(fields: dict[str, object]) -> dict[str, object]:
    """Cut every warning's sentence, then leave out the last until the rest has room."""
    found = fields.get("warnings")
    kept = [{**one, "message": _cut(one["message"])} for one in found] if isinstance(found, list) else []
    while kept and len(_dump({**fields, "warnings": kept})) > MAX_BYTES:
        kept.pop()
    others = {key: value for key, value in fields.items() if key != "warnings"}
    return {**others, "warnings": kept} if kept else others


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + "…"


def _dump(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", errors="replace")


@dataclass(frozen=True)
class Report:
    """What a termination message says; a field that it lacks, or has in a wrong form, is None or empty.

    Attributes:
        reason: CamelCase, never empty; one of an earlier version under its present name.
        message: a sentence with the next step.
        retryable: whether trying again may help; None where it does not say.
        log: the container's last lines.
        artifact_id: of a merge; None where it is not valid as the value of a label and the name of a folder.
        bytes: size of a merge's artifact, more than 0.
        warnings: about a merge's artifact, pairs of reason and sentence.
        chat_template: name of the template that a merge has resolved.
        digest: 64 hex digits over the files of a merge's artifact.
        heads: of a merge's model.
    """

    reason: str
    message: str = ""
    retryable: bool | None = None
    log: str = ""
    artifact_id: str | None = None
    bytes: int | None = None
    warnings: tuple[tuple[str, str], ...] = ()
    chat_template: str | None = None
    digest: str | None = None
    heads: Heads | None = None


def read_report(text: str) -> Report | None:
    """Read a termination message; None when it is text, not the JSON of the contract. Never raises."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not (reason := _text(message, "reason")):
        return None
    retryable = message.get("retryable")
    return Report(
        reason=FORMER_REASONS.get(reason, reason),
        message=_text(message, "message"),
        retryable=retryable if isinstance(retryable, bool) else None,
        log=_text(message, "log"),
        artifact_id=name if _ARTIFACT.fullmatch(name := _text(message, "artifactID")) else None,
        bytes=_size(message.get("bytes")),
        warnings=tuple(_warnings(message.get("warnings"))),
        chat_template=message["chatTemplate"] if is_resolved(message.get("chatTemplate")) else None,
        digest=digest if is_digest(digest := _text(message, "digest")) else None,
        heads=Heads.of(message.get("attentionHeads"), message.get("keyValueHeads")),
    )


def is_digest(text: str) -> bool:
    """Tell whether it is a digest of an artifact's files."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(files: Iterable[tuple[str, int, str]]) -> str:
    """Return the digest of an artifact's files: sha256 over a line per file, `<sha256> <size> <path>`, sorted.

    Args:
        files: path, size in bytes and sha256 in hex of every file but the manifest, which names tool and sources.
    """
    lines = sorted(f"{sha256} {size} {path}\n" for path, size, sha256 in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _text(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key)
    return printable(value) if isinstance(value, str) else ""


def _warnings(value: object) -> Iterator[tuple[str, str]]:
    for one in value if isinstance(value, list) else ():
        if isinstance(one, dict) and _text(one, "reason") and _text(one, "message"):
            yield _text(one, "reason"), _text(one, "message")


def _size(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 < value < _MOST_BYTES_OF_AN_ARTIFACT else None  # type: ignore[operator,return-value]
