"""The operator's settings that planning depends on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vicuna_contract.vllm_arguments import VLLM, VLLM_IMAGE
from vicuna_operator.api.types import ServingSpec
from vicuna_operator.resources.images import Images

__all__ = ["PlanConfig"]


@dataclass(frozen=True)
class PlanConfig:
    """Defaults of the chart.

    Attributes:
        server_image: image of merge and serving containers.
        front_image: image of the server where vLLM is the engine; empty: `server_image`.
        vllm_image: image of vLLM.
        merge_progress: whether pod logs may be read.
        allowed: patterns of what models may name, by kind (see `allowed`); a kind that is absent is not narrowed.
        platform_user: whether user and groups of the pods are left to the platform.
        gateway_keys: public keys of gateways, as `vicuna_contract.signing` reads them. New servers answer only what one
            of them has signed; empty: all requests.
        network_peers: NetworkPolicyPeers that may reach the servers of every model; None: no policy is made.
    """

    server_image: str
    server_image_pull_policy: str = "IfNotPresent"
    front_image: str = ""
    vllm_image: str = VLLM_IMAGE
    merge_progress: bool = True
    network_peers: Sequence[Mapping[str, Any]] | None = None
    platform_user: bool = False
    gateway_keys: str = ""
    allowed: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def default_images(self) -> frozenset[str]:
        """Return the images that no model has to name."""
        return frozenset({self.server_image, self.front_image, self.vllm_image} - {""})

    def images(self, serving: ServingSpec) -> Images:
        """Return the images of a revision that keeps none of an earlier one."""
        if serving.engine == VLLM:
            return Images(
                serving.image or self.front_image or self.server_image, serving.engine_image or self.vllm_image
            )
        return Images(serving.image or self.server_image)
