"""The options with which a gateway starts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vicuna_server.gateway.keys import KeyRing
from vicuna_server.gateway.settings import GatewaySettings

__all__ = ["NamespacedName", "Options"]


class NamespacedName(NamedTuple):
    """Where a Kubernetes object is."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Options:
    """Addresses, and where models and keys come from.

    Attributes:
        drain_seconds: how long new requests are served after SIGTERM.
        namespaces: of the models; empty: all.
        keys_secret: the Secret of the API keys; None: `ring` has them.
        service: the gateway's own Service, whose ready endpoints are its replicas.
        signing_key: file of the private key that signs requests to servers; None: they are not signed.
        ring: the API keys where no Secret holds them; None: requests need no key.
        upstreams: name and base URL of each model's servers; with any, no cluster is used.
    """

    host: str
    port: int
    metrics_port: int
    drain_seconds: float
    namespaces: tuple[str, ...] = ()
    keys_secret: NamespacedName | None = None
    ring: KeyRing | None = None
    service: NamespacedName | None = None
    signing_key: Path | None = None
    upstreams: tuple[tuple[str, str], ...] = ()
    settings: GatewaySettings = field(default_factory=GatewaySettings)

    @property
    def several_namespaces(self) -> bool:
        """Whether it may serve models of several namespaces."""
        return not self.upstreams and len(set(self.namespaces)) != 1
