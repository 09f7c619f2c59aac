"""The PodDisruptionBudget over all revisions of a model: nodes are drained one serving pod at a time."""

from typing import Any

from vicuna_operator.api import constants as c
from vicuna_operator.api.model import Model
from vicuna_operator.resources.common import labels, owner, with_hash
from vicuna_operator.resources.service import pod_selector

__all__ = ["disruption_budget"]


def disruption_budget(model: Model) -> dict[str, Any]:
    """Build the PodDisruptionBudget `<model>`."""
    return with_hash(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {
                "name": model.name,
                "namespace": model.namespace,
                "labels": labels(model, c.NAME_SERVER),
                "ownerReferences": [owner(model)],
            },
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": pod_selector(model)}},
        }
    )
