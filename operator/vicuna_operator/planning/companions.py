"""What stands beside the revisions of a model, whatever they do: its Service and its PodDisruptionBudget."""

from collections.abc import Mapping
from typing import Any

from vicuna_operator.api import constants as c
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, Apply, Create, Delete, Ref
from vicuna_operator.planning.meta import Meta
from vicuna_operator.planning.observed import Observed
from vicuna_operator.resources.budget import disruption_budget
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.service import model_service

__all__ = ["companion_actions"]


def companion_actions(model: Model, seen: Observed) -> list[Action]:
    """Make what is missing, apply what differs, remove the budget of a model that has at most one pod."""
    service = seen.service.meta if seen.service is not None else None
    actions = _kept(model, service, model_service(model))
    if not seen.budgets_offered:
        return actions
    budget = seen.budget.meta if seen.budget is not None else None
    if spec_of(model).serving.replicas > 1:
        return actions + _kept(model, budget, disruption_budget(model))
    if budget is not None and _ours(model, budget):
        actions.append(Delete(Ref("policy/v1", "PodDisruptionBudget", budget.name), budget.uid))
    return actions


def _kept(model: Model, found: Meta | None, body: Mapping[str, Any]) -> list[Action]:
    if found is None:
        return [Create(body)]
    wanted = body["metadata"]["annotations"][c.ANNOTATION_APPLIED_HASH]
    same = found.annotations.get(c.ANNOTATION_APPLIED_HASH) == wanted
    return [] if same or not _ours(model, found) else [Apply(body)]


def _ours(model: Model, found: Meta) -> bool:
    return found.owner_uid == model.uid and not found.deleting
