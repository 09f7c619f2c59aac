"""The NetworkPolicy of a model: who may open connections to its servers."""

from collections.abc import Mapping, Sequence
from typing import Any

from vicuna_operator.api.model import Model
from vicuna_operator.resources.common import managed_object
from vicuna_operator.resources.service import pod_selector

__all__ = ["network_policy"]


def network_policy(model: Model, peers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Build the NetworkPolicy `<model>`.

    Args:
        model: whose servers are shielded.
        peers: networking.k8s.io/v1 NetworkPolicyPeers that are let in; none: nobody is.
    """
    rules = [{"from": list(peers), "ports": [{"port": "http", "protocol": "TCP"}]}] if peers else []
    spec = {"podSelector": {"matchLabels": pod_selector(model)}, "policyTypes": ["Ingress"], "ingress": rules}
    return managed_object(model, "networking.k8s.io/v1", "NetworkPolicy", spec)
