"""What `artifacts` found and did, as aligned text for people or as JSON for programs."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from vicuna_server.artifacts.listing import Artifact, Listing
from vicuna_server.artifacts.pruning import Candidate
from vicuna_server.artifacts.verify import Fault
from vicuna_server.wording import printable, readable_age, readable_size

__all__ = ["JsonPrinter", "Printer", "TextPrinter"]

_HEADING = ("ARTIFACT", "KIND", "DTYPE", "SIZE", "MADE", "USED", "SOURCES")


class Printer(Protocol):
    """Where outcomes go."""

    def listing(self, listing: Listing) -> None:
        """Tell what lies on a volume."""

    def verified(self, artifact_id: str, size: int, faults: Sequence[Fault], *, fast: bool) -> None:
        """Tell what is wrong with one artifact of `size` bytes, if anything is."""

    def end(self, *, of: int) -> None:
        """Tell what waited for the end of the progress bar; it was to be about so many artifacts."""

    def plan(self, found: Sequence[Candidate]) -> None:
        """Tell what is to be removed and what stays."""

    def pruned(self, candidate: Candidate, kept: str | None) -> None:
        """Tell that one was removed, or why it stayed after all."""

    def total(self, count: int, size: int, *, dry_run: bool) -> None:
        """Tell how much was removed, or would be."""


class JsonPrinter:
    """One object for a listing, else one per line."""

    def listing(self, listing: Listing) -> None:
        """Print one object."""
        print(listing.model_dump_json(by_alias=True, indent=2), flush=True)

    def verified(self, artifact_id: str, size: int, faults: Sequence[Fault], *, fast: bool) -> None:
        """Print one line."""
        found = [{"file": fault.file, "what": fault.what} for fault in faults]
        self._event("verified", artifactID=artifact_id, bytes=size, fast=fast, faults=found)

    def end(self, *, of: int) -> None:
        """Do nothing."""

    def plan(self, found: Sequence[Candidate]) -> None:
        """Print one line for each."""
        for each in found:
            why = {"why": each.kept} if each.kept else {}
            self._event("keep" if why else "remove", **_of(each), ageSeconds=int(each.age), **why)

    def pruned(self, candidate: Candidate, kept: str | None) -> None:
        """Print one line."""
        self._event("kept" if kept else "removed", **_of(candidate), **({"why": kept} if kept else {}))

    def total(self, count: int, size: int, *, dry_run: bool) -> None:
        """Print the last line."""
        self._event("pruned", count=count, bytes=size, dryRun=dry_run)

    def _event(self, event: str, **fields: Any) -> None:
        print(json.dumps({"event": event, **fields}), flush=True)


class TextPrinter:
    """Lines for people."""

    def __init__(self) -> None:
        self._verified: list[str] = []

    def listing(self, listing: Listing) -> None:
        """Print a table of artifacts, what is wrong with them, and unfinished merges."""
        now = datetime.now(UTC)
        lines = _aligned([_HEADING, *(_row(each, now) for each in listing.artifacts)])
        for each in listing.artifacts:
            lines += [f"damaged: {each.artifact_id}/{fault.file} {fault.what}" for fault in each.faults]
        for left in listing.unfinished:
            age = readable_age((now - left.changed_at).total_seconds())
            state = "a merge works in it" if left.running else "its merge is dead"
            lines.append(f"unfinished: {left.name}, {readable_size(left.size)}, {age} old, {state}")
        _print(lines)

    def verified(self, artifact_id: str, size: int, faults: Sequence[Fault], *, fast: bool) -> None:  # noqa: ARG002
        """Note one line, and one for each fault."""
        self._verified.append(f"{'damaged' if faults else 'ok':<9}{artifact_id}  {readable_size(size)}")
        self._verified += [f"         {fault.file} {fault.what}" for fault in faults]

    def end(self, *, of: int) -> None:
        """Print what was noted, now that the bar is gone."""
        _print(self._verified if of else ["no artifacts"])

    def plan(self, found: Sequence[Candidate]) -> None:
        """Print one line for each."""
        _print(_aligned([_plan_row(each) for each in found]))

    def pruned(self, candidate: Candidate, kept: str | None) -> None:
        """Print a line if something went otherwise than planned."""
        _print([f"kept {candidate.path.name}: {kept}"] if kept else [])

    def total(self, count: int, size: int, *, dry_run: bool) -> None:
        """Print the last line."""
        folders = "1 folder" if count == 1 else f"{count} folders"
        _print([f"{'would remove' if dry_run else 'removed'} {folders}, {readable_size(size)}"])


def _of(candidate: Candidate) -> dict[str, Any]:
    return {"name": candidate.path.name, "key": candidate.key, "bytes": candidate.size}


def _plan_row(each: Candidate) -> tuple[str, ...]:
    what = f"keep, {each.kept}" if each.kept else "remove"
    return what, each.path.name, readable_size(each.size), f"{readable_age(each.age)} old"


def _row(each: Artifact, now: datetime) -> tuple[str, ...]:
    ages = [readable_age((now - moment).total_seconds()) for moment in (each.created_at, each.used_at)]
    sources = " + ".join(origin.source for origin in each.sources) or "-"
    return each.artifact_id, each.kind or "-", each.dtype or "-", readable_size(each.size), *ages, sources


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        print(printable(line))
    sys.stdout.flush()
