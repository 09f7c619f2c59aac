"""Finalizers of others: they keep a deleted object until somebody removes them."""

from vicuna_contract.printable import printable

__all__ = ["foreign_finalizers"]

_OF_KUBERNETES = {"foregroundDeletion", "orphan"}
_DOMAIN = "kubernetes.io"


def foreign_finalizers(value: object) -> tuple[str, ...]:
    """Return the finalizers that Kubernetes itself does not set and remove."""
    found = [printable(item) for item in value if isinstance(item, str)] if isinstance(value, list) else []
    return tuple(item for item in found if item not in _OF_KUBERNETES and not _is_own(item))


def _is_own(finalizer: str) -> bool:
    domain = finalizer.partition("/")[0]
    return domain == _DOMAIN or domain.endswith(f".{_DOMAIN}")
