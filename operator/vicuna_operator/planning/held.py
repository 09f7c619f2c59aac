"""Deletions that another party's finalizer holds up: of the model itself, and of its children.

Kubernetes keeps such an object until the finalizer is removed, and reports it nowhere. A model that is held goes on
serving and follows no edit. A child that is held keeps its name, so that no other can be made in its place.
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

_STEP = "ask whoever set it, or remove it from metadata.finalizers"


def held_status(model: Model, now: datetime) -> dict[str, Any] | None:
    """Return the status of a model whose deletion is held up; None where nobody else holds it."""
    if not model.finalizers:
        return None
    message = (
        f"deleted, and kept by the finalizer {_named(model.finalizers)}: its pods go on, and no edit is followed;"
        f" {_STEP}"
    )
    before = [item for item in model.status.get("conditions") or () if item.get("type") != ConditionType.DRIFTED]
    condition = Condition(ConditionType.DRIFTED, True, Reason.DELETION_HELD, message)
    old = find_condition(model.status, ConditionType.DRIFTED)
    drifted = merge_conditions([condition], [old] if old else [], generation=model.generation, now=now)
    return {**model.status, "action": _STEP, "conditions": [*before, *drifted]}


def held_children(model: Model, seen: Observed) -> Iterator[str]:
    """Say which children are deleted and kept by a finalizer; pods that do not end are named with the rollout."""
    for kind, meta in _children(seen):
        if meta.deleting and meta.finalizers and meta.owner_uid == model.uid:
            yield (
                f"{kind} {meta.name} is deleted, and kept by the finalizer {_named(meta.finalizers)}: until it is gone"
                f" none can be made in its place; {_STEP}"
            )


def without_taken(actions: Sequence[Action], seen: Observed) -> Sequence[Action]:
    """Leave out creations whose name is still taken by an object that is being deleted; its end wakes the model."""
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
