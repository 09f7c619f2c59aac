"""`kubectl vicuna why`: what a model waits for, since when, and the next step, from its status and Events alone.

Pure: whoever may read VicunaModels and Events can ask; no child is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from vicuna_operator.api.conditions import ConditionType, Phase, Reason, find_condition, format_time
from vicuna_operator.planning.lenient import moment, whole
from vicuna_operator.planning.next_step import next_step

__all__ = ["Explanation", "explain", "render"]

_EVENTS = 5
_SHOWN = 120  # letters of an Event; the cause above is whole
_NO_OPERATOR = "see that the operator runs: `kubectl get pods -A -l app.kubernetes.io/name=vicuna-operator`"

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Explanation:
    """Why a model is not ready. `by_itself`: it goes on without the user; `events` are the last ones, newest first."""

    name: str
    generation: int
    ready: bool
    reason: str
    waits_for: str
    since: str
    change: str
    by_itself: bool
    serves: str = ""
    progress: str = ""
    events: Sequence[Mapping[str, str]] = ()

    def as_dict(self) -> dict[str, Any]:
        """Render it for machines."""
        named = {"waits_for": "waitsFor", "by_itself": "byItself"}
        return {named.get(key, key): value for key, value in asdict(self).items()}


def explain(body: Body, events: Sequence[Body]) -> Explanation:
    """Say what a model waits for."""
    metadata, status = body["metadata"], body.get("status") or {}
    name, generation = str(metadata["name"]), whole(metadata.get("generation"))
    recent = _recent_events(sorted(events, key=_when, reverse=True))
    if "deletionTimestamp" in metadata:
        return _going(name, generation, metadata, recent)
    ready = find_condition(status, ConditionType.READY)
    if not ready or status.get("observedGeneration") != metadata.get("generation"):
        return _unseen(name, generation, metadata, recent)
    since = _since(ready, [event for event in events if event.get("reason") == ready.get("reason")])
    return _seen(name, generation, status, ready, since, recent)


def _seen(
    name: str, generation: int, status: Body, ready: Body, since: str, recent: Sequence[Mapping[str, str]]
) -> Explanation:
    reason, is_ready = str(ready.get("reason", "")), ready.get("status") == "True"
    stalled = find_condition(status, ConditionType.STALLED).get("status") == "True"
    step = str(status.get("action") or next_step(name, reason) or "")
    return Explanation(
        name=name,
        generation=generation,
        ready=is_ready,
        reason=reason,
        waits_for="" if is_ready else str(ready.get("message", "")).replace(f"; {step}", "", 1),
        since=since,
        change=step,
        by_itself=not (is_ready or stalled or status.get("phase") in (Phase.SUSPENDED, Phase.ASLEEP)),
        serves=_serves(status),
        progress=_progress(status) if reason in (Reason.MERGING, Reason.MERGE_PENDING) else "",
        events=recent,
    )


def render(why: Explanation, now: datetime) -> str:
    """Render it for people."""
    return "\n".join(_lines(why, now))


def _lines(why: Explanation, now: datetime) -> Iterator[str]:
    yield f"{why.name} (generation {why.generation}) {'is ready' if why.ready else f'is not ready: {why.reason}'}"
    since = moment(why.since)
    rows = {
        "to change it": why.change,
        "waits for" if why.by_itself else "because": why.waits_for,
        "so far": why.progress,
        "since": f"{why.since} ({_span(since, now)})" if since is not None else "",
        "then": "" if why.ready else "it goes on by itself" if why.by_itself else "nothing changes without you",
        "serves": why.serves,
    }
    yield from (f"  {name:<12}  {text}" for name, text in rows.items() if text)
    for event in why.events:
        at = moment(event["time"])
        ago = f"{_span(at, now)} ago" if at is not None else "some time ago"
        message = event["message"]
        yield f"  {ago:<12}  {event['type']} {event['reason']}: {message[:_SHOWN]}{'…' * (len(message) > _SHOWN)}"


def _going(name: str, generation: int, metadata: Body, recent: Sequence[Mapping[str, str]]) -> Explanation:
    holders = ", ".join(map(str, metadata.get("finalizers") or ()))
    waits = f"finalizers of others: {holders}" if holders else "its pods, which end once their streams have"
    change = "ask whoever set the finalizers, or remove them" if holders else "nothing: it goes on automatically"
    since = str(metadata["deletionTimestamp"])
    return Explanation(name, generation, False, "Deleting", waits, since, change, not holders, events=recent)


def _unseen(name: str, generation: int, metadata: Body, recent: Sequence[Mapping[str, str]]) -> Explanation:
    waits = f"an operator to reconcile generation {generation}"
    since = str(metadata.get("creationTimestamp", "")) if generation <= 1 else ""
    return Explanation(name, generation, False, "Unseen", waits, since, _NO_OPERATOR, True, events=recent)


def _since(ready: Body, events: Sequence[Body]) -> str:
    """Return since when this is the reason; the condition's own time is that of the last change of its status."""
    known = [moment(ready.get("lastTransitionTime")), *(moment(_when(event)) for event in events)]
    found = [at for at in known if at is not None]
    return format_time(max(found)) if found else ""


def _serves(status: Body) -> str:
    active, count = status.get("active") or {}, whole(status.get("readyReplicas"))
    return f"revision {active.get('revision')} with {count} pods" if active and count else ""


def _progress(status: Body) -> str:
    merge = status.get("merge") or {}
    if "percent" not in merge:
        return ""
    left = whole(merge.get("remainingSeconds"))
    return f"{merge['percent']} % merged" + (f", about {max(1, left // 60)} min left" if left else "")


def _recent_events(events: Sequence[Body]) -> list[Mapping[str, str]]:
    """Return the newest Events, the same one once."""
    found: dict[tuple[str, str], Mapping[str, str]] = {}
    for event in events:
        entry = {key: str(event.get(key, "")) for key in ("type", "reason", "message")}
        found.setdefault((entry["reason"], entry["message"]), {"time": _when(event), **entry})
    return list(found.values())[:_EVENTS]


def _when(event: Body) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")


def _span(since: datetime, now: datetime) -> str:
    minutes, seconds = divmod(max(0, int((now - since).total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"
