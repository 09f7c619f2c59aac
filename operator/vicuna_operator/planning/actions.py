"""A plan: a few plain instructions that the reconciler carries out in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Action", "Apply", "Create", "Delete", "DryRun", "NewEvent", "Patch", "Plan", "Ref", "summary"]


@dataclass(frozen=True)
class Ref:
    """One object of the model's namespace, by kind and name."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True)
class Create:
    """Create an object by POST. An existing object of that name is fine if it is ours, else a name conflict."""

    body: Mapping[str, Any]


@dataclass(frozen=True)
class Apply:
    """Server-side apply an object that is known to be ours."""

    body: Mapping[str, Any]


@dataclass(frozen=True)
class Patch:
    """Merge-patch an object that is known to be ours; the uid is a precondition."""

    ref: Ref
    uid: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Delete:
    """Delete an object that is known to be ours, its pods in the background."""

    ref: Ref
    uid: str


Action = Create | Apply | Patch | Delete


def summary(action: Action) -> str:
    """Name an action in three words: what is done to which object."""
    if isinstance(action, Create | Apply):
        kind, name = action.body["kind"], action.body["metadata"]["name"]
    else:
        kind, name = action.ref.kind, action.ref.name
    return f"{type(action).__name__.lower()} {kind} {name}"


@dataclass(frozen=True)
class NewEvent:
    """A Kubernetes Event to post on the model; type Normal or Warning."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class DryRun:
    """Objects that the API server should validate by a dry run; the answer is good for one `key`."""

    key: str
    bodies: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Plan:
    """The next step: actions in order, the status to write, Events to post, when to reconcile again.

    `status` is the whole status object, None to leave it alone. `requeue_after` is in seconds, None: only on an event.
    `ask_events` names the children (by uid) whose Events explain why they are stuck; the next pass gets them.
    `read_progress` names the merge pod whose last log line tells the progress.
    `dry_run` comes first: with its answer another plan is made in place of this one.
    `enough_for` says above how many requests the demand is to wake the model; None: never.
    `decision` has the fields of the debug log line.
    """

    actions: Sequence[Action] = ()
    status: Mapping[str, Any] | None = None
    new_events: Sequence[NewEvent] = ()
    requeue_after: float | None = None
    ask_events: Sequence[str] = ()
    read_progress: str | None = None
    dry_run: DryRun | None = None
    enough_for: int | None = None
    decision: Mapping[str, object] = field(default_factory=dict)
