"""The NetworkPolicy of a model: who may open connections to its pods."""

from collections.abc import Mapping, Sequence
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.resources.common import managed_object

__all__ = ["network_policy"]


def network_policy(model: Model, peers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Build the NetworkPolicy `<model>`.

    It is for all pods of the model. Merges and clean-ups listen on nothing: they have no port of that name, so nobody
    is let in to them.

    Args:
        model: whose pods are shielded.
        peers: networking.k8s.io/v1 NetworkPolicyPeers that may reach its servers; empty: nothing may.
    """
    rules = [{"from": list(peers), "ports": [{"port": "http", "protocol": "TCP"}]}] if peers else []
    spec = {"podSelector": _pods(model), "policyTypes": ["Ingress"], "ingress": rules}
    return managed_object(model, "networking.k8s.io/v1", "NetworkPolicy", spec)


def _pods(model: Model) -> dict[str, Any]:
    """Return the LabelSelector of every pod that the operator makes for a model."""
    kinds = {"key": c.LABEL_NAME, "operator": "In", "values": [c.NAME_SERVER, c.NAME_MERGE, c.NAME_PRUNE]}
    return {"matchLabels": {c.LABEL_MODEL: model.name}, "matchExpressions": [kinds]}
