"""The gateway, as the end-to-end tests reach it."""

from collections.abc import Iterator
from contextlib import contextmanager

from .cluster import SYSTEM, Namespace, run

GATEWAY = "vicuna-operator-gateway"
SELECTOR = f"app.kubernetes.io/name={GATEWAY}"
URL = f"http://{GATEWAY}.{SYSTEM}.svc"


@contextmanager
def gateway_key(operator: Namespace, team: Namespace, name: str) -> Iterator[str]:
    """Wait until the gateway runs; yield a key for the team's models, which is revoked in the end."""
    operator.kubectl("rollout", "status", f"deployment/{GATEWAY}", "--timeout=120s")
    key = run("kubectl", "vicuna", "key", "create", name, "--models", f"{team.name}/*").strip()
    try:
        yield key
    finally:
        run("kubectl", "vicuna", "key", "revoke", name)
