"""A kubeconfig for a server of the Kubernetes API that a test runs."""

import json
from pathlib import Path

__all__ = ["write_kubeconfig"]


def write_kubeconfig(path: Path, server: str, token: str | None = None) -> Path:
    """Write one cluster, user and context into a file, and return it."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token} if token else {}}],
    }
    path.write_text(json.dumps(config))
    return path
