"""The objects that a model has once, whatever its revisions: Service, PodDisruptionBudget and NetworkPolicy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, Apply, Create, Delete, NewEvent, Patch, Ref
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.observed import ManagedObjectView, Observed
from vicuna_operator.planning.putting_back import differing, put_back, seconds_left
from vicuna_operator.resources.budget import disruption_budget
from vicuna_operator.resources.common import owner, spec_of
from vicuna_operator.resources.network_policy import network_policy
from vicuna_operator.resources.service import model_service

__all__ = ["ManagedObjects", "plan_managed_objects"]


@dataclass(frozen=True)
class ManagedObjects:
    """What is done to them; `contested` names fields that somebody rewrites each time they are put back."""

    actions: Sequence[Action] = ()
    new_events: Sequence[NewEvent] = ()
    contested: Sequence[str] = ()
    requeue_after: float | None = None

    def __add__(self, other: "ManagedObjects") -> "ManagedObjects":
        waits = [wait for wait in (self.requeue_after, other.requeue_after) if wait is not None]
        return ManagedObjects(
            [*self.actions, *other.actions],
            [*self.new_events, *other.new_events],
            [*self.contested, *other.contested],
            min(waits, default=None),
        )


def plan_managed_objects(
    model: Model, seen: Observed, config: PlanConfig, now: datetime, *, shared_volume: bool
) -> ManagedObjects:
    """Create what is missing, apply what differs, put back what somebody changed, delete what is not wanted any more.

    Where the volume belongs to one node there is no PodDisruptionBudget. All pods must be on that node, and a budget
    that lets one pod go at a time would block its drain for ever.
    """
    found = _kept(model, seen.service, model_service(model), now)
    if seen.budgets_offered:
        several = spec_of(model).serving.most_replicas > 1 and shared_volume
        wanted = disruption_budget(model) if several else None
        found += _kept_or_removed(model, seen.budget, wanted, ("policy/v1", "PodDisruptionBudget"), now)
    peers = config.network_peers
    policy = network_policy(model, peers) if peers is not None else None
    return found + _kept_or_removed(model, seen.policy, policy, ("networking.k8s.io/v1", "NetworkPolicy"), now)


def _kept_or_removed(
    model: Model, found: ManagedObjectView | None, body: Mapping[str, Any] | None, what: tuple[str, str], now: datetime
) -> ManagedObjects:
    if body is not None:
        return _kept(model, found, body, now)
    if found is None or not _ours(model, found):
        return ManagedObjects()
    return ManagedObjects([Delete(Ref(*what, found.meta.name), found.meta.uid)])


def _kept(model: Model, found: ManagedObjectView | None, body: Mapping[str, Any], now: datetime) -> ManagedObjects:
    if found is None:
        return ManagedObjects([Create(body)])
    if found.meta.is_orphan_of(model.name, model.uid) and not differing(found, body):
        ref = Ref(str(body["apiVersion"]), str(body["kind"]), found.meta.name)
        return ManagedObjects([Patch(ref, found.meta.uid, {"metadata": {"ownerReferences": [owner(model)]}})])
    if not _ours(model, found):
        return ManagedObjects()
    wanted = body["metadata"]["annotations"][c.ANNOTATION_APPLIED_HASH]
    if found.meta.annotations.get(c.ANNOTATION_APPLIED_HASH) != wanted:
        return ManagedObjects([Apply(body)])
    return _restored(found, body, now)


def _restored(found: ManagedObjectView, body: Mapping[str, Any], now: datetime) -> ManagedObjects:
    """Put back what was changed by hand; a field that is changed again at once is reported instead."""
    fields = differing(found, body)
    if not fields:
        return ManagedObjects()
    what = f"{body['kind']} {found.meta.name}: {', '.join(fields)}"
    left = seconds_left(found, body, now)
    if left > 0:
        return ManagedObjects(contested=[what], requeue_after=left)
    ref = Ref(str(body["apiVersion"]), str(body["kind"]), found.meta.name)
    message = f"{what}: somebody else changed it, and the operator put it back; change the VicunaModel instead"
    return ManagedObjects(
        [Patch(ref, found.meta.uid, put_back(found, body, now))], [NewEvent("Warning", "PutBack", message)]
    )


def _ours(model: Model, found: ManagedObjectView) -> bool:
    return found.meta.is_child_of(model.uid)
