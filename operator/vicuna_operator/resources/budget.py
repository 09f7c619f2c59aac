"""The PodDisruptionBudget over all revisions of a model: nodes are drained one serving pod at a time."""

from typing import Any

from vicuna_operator.api.model import Model
from vicuna_operator.resources.common import managed_object
from vicuna_operator.resources.service import pod_selector

__all__ = ["disruption_budget"]


def disruption_budget(model: Model) -> dict[str, Any]:
    """Build the PodDisruptionBudget `<model>`; pods that are not ready do not hold up a drain."""
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": pod_selector(model)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return managed_object(model, "policy/v1", "PodDisruptionBudget", spec)
