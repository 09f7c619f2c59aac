"""What stands beside the revisions of a model, whatever they do: Service, PodDisruptionBudget and NetworkPolicy."""

from collections.abc import Mapping
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, Apply, Create, Delete, Ref
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.meta import Meta
from vicuna_operator.planning.observed import Observed
from vicuna_operator.resources.budget import disruption_budget
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.network_policy import network_policy
from vicuna_operator.resources.service import model_service

__all__ = ["companion_actions"]


def companion_actions(model: Model, seen: Observed, config: PlanConfig) -> list[Action]:
    """Make what is missing, apply what differs, remove what is no longer wanted."""
    service = seen.service.meta if seen.service is not None else None
    actions = _kept(model, service, model_service(model))
    if seen.budgets_offered:
        budget = seen.budget.meta if seen.budget is not None else None
        wanted = disruption_budget(model) if spec_of(model).serving.replicas > 1 else None
        actions += _kept_or_removed(model, budget, wanted, "policy/v1", "PodDisruptionBudget")
    peers = config.network_peers
    policy = network_policy(model, peers) if peers is not None else None
    return actions + _kept_or_removed(model, seen.policy, policy, "networking.k8s.io/v1", "NetworkPolicy")


def _kept_or_removed(
    model: Model, found: Meta | None, body: Mapping[str, Any] | None, api_version: str, kind: str
) -> list[Action]:
    if body is not None:
        return _kept(model, found, body)
    if found is None or not _ours(model, found):
        return []
    return [Delete(Ref(api_version, kind, found.name), found.uid)]


def _kept(model: Model, found: Meta | None, body: Mapping[str, Any]) -> list[Action]:
    if found is None:
        return [Create(body)]
    wanted = body["metadata"]["annotations"][c.ANNOTATION_APPLIED_HASH]
    same = found.annotations.get(c.ANNOTATION_APPLIED_HASH) == wanted
    return [] if same or not _ours(model, found) else [Apply(body)]


def _ours(model: Model, found: Meta) -> bool:
    return found.is_child_of(model.uid)
