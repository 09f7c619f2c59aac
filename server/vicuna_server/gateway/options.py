"""What a gateway is told when it starts."""

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
        drain_seconds: after SIGTERM new requests are served for so long.
        namespaces: whose models; empty: all.
        keys_secret: holds the API keys; None: everybody may come in.
        service: the gateway's own, whose ready endpoints are its replicas.
        signing_key: file of the private key by which requests to servers are signed; None: they are not.
        ring: the API keys where no Secret holds them; None: everybody may come in.
        upstreams: name and base URL of each model's servers; with any, no cluster is asked.
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
        """Whether models of several namespaces can be behind it."""
        return not self.upstreams and len(set(self.namespaces)) != 1
