"""Finalizers of others: what keeps an object that is deleted until somebody takes them away."""

from vicuna_contract.printable import printable

__all__ = ["foreign_finalizers"]

_OF_KUBERNETES = {"foregroundDeletion", "orphan"}
_DOMAIN = "kubernetes.io"


def foreign_finalizers(value: object) -> tuple[str, ...]:
    """Return those that Kubernetes itself does not set and take away again."""
    found = [printable(item) for item in value if isinstance(item, str)] if isinstance(value, list) else []
    return tuple(item for item in found if item not in _OF_KUBERNETES and not _is_own(item))


def _is_own(finalizer: str) -> bool:
    domain = finalizer.partition("/")[0]
    return domain == _DOMAIN or domain.endswith(f".{_DOMAIN}")
