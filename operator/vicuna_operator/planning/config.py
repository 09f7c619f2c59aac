"""The operator's settings that planning depends on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PlanConfig"]


@dataclass(frozen=True)
class PlanConfig:
    """Defaults of the chart.

    Attributes:
        server_image: image of merge and serving containers.
        merge_progress: whether pod logs may be read.
        allowed: patterns of what models may name, by kind (see `allowed`); a kind that is absent is not narrowed.
        platform_user: whether user and groups of the pods are left to the platform.
        gateway_keys: public keys of gateways, as `vicuna_contract.signing` reads them. New servers answer only what one
            of them has signed; empty: all requests.
        network_peers: NetworkPolicyPeers that may reach the servers of every model; None: no policy is made.
    """

    server_image: str
    server_image_pull_policy: str = "IfNotPresent"
    merge_progress: bool = True
    network_peers: Sequence[Mapping[str, Any]] | None = None
    platform_user: bool = False
    gateway_keys: str = ""
    allowed: Mapping[str, Sequence[str]] = field(default_factory=dict)
