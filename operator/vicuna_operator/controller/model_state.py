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
    """What is remembered of one model, by uid; times are of a monotonic clock."""

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
    # by a pod's uid: which end of vLLM's, and what it printed before
    last_words: dict[str, tuple[str, str]] = field(default_factory=dict)
    # kinds of managed objects that are not wanted and were not there
    absent: set[str] = field(default_factory=set)
    # names that objects of others have taken
    conflicts: set[Ref] = field(default_factory=set)
    # children that no watch shows, since somebody changed their labels
    relabelled: dict[Ref, str] = field(default_factory=dict)
    # uids that the index still has although they are deleted: a watch that is restarted misses deletions
    ghosts: set[str] = field(default_factory=set)
    gone: bool = False
    audited: float = NEVER
    # HorizontalPodAutoscalers of the model, and when they were read
    autoscalers: Sequence[str] = ()
    autoscalers_read: float = NEVER
    # the answer to the last dry run
    dry_run: DryRunResult | None = None
    # why the model is left to another operator; empty: it is ours
    left: str = ""
    # how often another operator removed status.managedBy, and until when the model is left to it for that
    stripped: int = 0
    yields_until: float = NEVER
    # passes in a row that failed on a stale index
    stale: int = 0
    # the last status sent, and what the API made of it
    sent: Mapping[str, Any] | None = None
    kept: Mapping[str, Any] | None = None


def newer_body(indexed: Mapping[str, Any], ours: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Choose the newer of the index and the answer to our last write; the index where versions cannot be compared."""
    if ours is None or ours["metadata"].get("uid") != indexed["metadata"].get("uid"):
        return indexed
    try:
        later = int(ours["metadata"]["resourceVersion"]) > int(indexed["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return indexed
    return ours if later else indexed
