"""What the reconciler remembers of one model between passes; losing it costs a few API calls, never correctness."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vicuna_operator.planning.actions import Ref
from vicuna_operator.planning.observed import DryRunResult, EventView

__all__ = ["ModelState", "newer_body"]

NEVER = float("-inf")


@dataclass
class ModelState:
    """Memory of one model, by uid; times are of a monotonic clock."""

    uid: str
    # the object as our last status write returned it: the watch shows it a moment later
    newest: Mapping[str, Any] | None = None
    # what the last plan asked to read
    ask_events: Sequence[str] = ()
    read_progress: str | None = None
    # what was read
    events: dict[str, tuple[float, Sequence[EventView]]] = field(default_factory=dict)
    progress: Mapping[str, Any] | None = None
    progress_pod: str | None = None
    progress_at: float = NEVER
    # kinds of companions that are not wanted and were not there
    absent: set[str] = field(default_factory=set)
    # names that foreign objects hold
    conflicts: set[Ref] = field(default_factory=set)
    # children that are there, and that no watch shows because of their labels
    relabelled: dict[Ref, str] = field(default_factory=dict)
    # uids that the index still shows though the API knows them no more: a watch that had to start anew misses deletions
    ghosts: set[str] = field(default_factory=set)
    gone: bool = False
    audited: float = NEVER
    # what the API server thought of the objects that the spec comes to
    dry_run: DryRunResult | None = None
    # why the model is left to another operator; empty: it is ours
    left: str = ""
    # how often another took our mark off the status, and until when it is left to that one for it
    stripped: int = 0
    yields_until: float = NEVER
    # passes in a row that met something newer than the index
    stale: int = 0
    # the last status sent, and what the API made of it
    sent: Mapping[str, Any] | None = None
    kept: Mapping[str, Any] | None = None


def newer_body(indexed: Mapping[str, Any], ours: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Choose between the index and the answer to our last write; an unknown kind of version: the index."""
    if ours is None or ours["metadata"].get("uid") != indexed["metadata"].get("uid"):
        return indexed
    try:
        later = int(ours["metadata"]["resourceVersion"]) > int(indexed["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return indexed
    return ours if later else indexed
