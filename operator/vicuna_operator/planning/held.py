"""Deletions that do not end because of somebody's finalizer: of the model itself, and of what belongs to it.

Kubernetes keeps such an object for good, and nobody says so. A model that is held serves on as it is and follows no
edit; a child that is held keeps its name, so that none can be made in its place.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from vicuna_operator.api.conditions import (
    Condition,
    ConditionType,
    Reason,
    find_condition,
    merge_conditions,
)
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, Create
from vicuna_operator.planning.meta import Meta
from vicuna_operator.planning.observed import Observed

__all__ = ["held_children", "held_status", "without_taken"]

_STEP = "ask whoever set it, or take it out of metadata.finalizers"


def held_status(model: Model, now: datetime) -> dict[str, Any] | None:
    """Return the status of a model whose deletion is held up; None where nobody else holds it."""
    if not model.finalizers:
        return None
    message = (
        f"deleted, and kept by the finalizer {_named(model.finalizers)}: what runs goes on, and no edit is followed;"
        f" {_STEP}"
    )
    before = [item for item in model.status.get("conditions") or () if item.get("type") != ConditionType.DRIFTED]
    condition = Condition(ConditionType.DRIFTED, True, Reason.DELETION_HELD, message)
    old = find_condition(model.status, ConditionType.DRIFTED)
    drifted = merge_conditions([condition], [old] if old else [], generation=model.generation, now=now)
    return {**model.status, "action": _STEP, "conditions": [*before, *drifted]}


def held_children(model: Model, seen: Observed) -> Iterator[str]:
    """Say which children are deleted and do not go. Pods are not among them: rollouts name those that do not end."""
    for kind, meta in _children(seen):
        if meta.deleting and meta.finalizers and meta.owner_uid == model.uid:
            yield (
                f"{kind} {meta.name} is deleted, and kept by the finalizer {_named(meta.finalizers)}: until it is gone"
                f" none can be made in its place; {_STEP}"
            )


def without_taken(actions: Sequence[Action], seen: Observed) -> Sequence[Action]:
    """Leave out the creation of what is deleted and not gone yet: its name is taken until then, and its end is told."""
    leaving = {(kind, meta.name) for kind, meta in _children(seen) if meta.deleting}
    return [item for item in actions if not (isinstance(item, Create) and _name_of(item) in leaving)]


def _name_of(action: Create) -> tuple[str, str]:
    return str(action.body["kind"]), str(action.body["metadata"]["name"])


def _children(seen: Observed) -> Iterator[tuple[str, Meta]]:
    yield from (("Job", item.meta) for item in seen.jobs)
    yield from (("Deployment", item.meta) for item in seen.deployments)
    for kind, item in (
        ("Service", seen.service),
        ("PodDisruptionBudget", seen.budget),
        ("NetworkPolicy", seen.policy),
    ):
        if item is not None:
            yield kind, item.meta


def _named(finalizers: Sequence[str]) -> str:
    return " and ".join(finalizers[:3])
