"""The few Kubernetes API calls the operator makes, on plain dicts. Tests bring their own implementation."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vicuna_operator.planning.actions import Ref

__all__ = ["Body", "Kube", "ref_of"]

Body = dict[str, Any]


class Kube(Protocol):
    """A namespaced view of the API server; every failure is a `KubeError` carrying the API's own words."""

    async def get(self, ref: Ref, namespace: str) -> Body | None:
        """Read one object; None if it does not exist."""
        ...

    async def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int | None = None,
    ) -> list[Body]:
        """Read the objects of a kind, of one namespace or (None) of all; at most `limit` of them."""
        ...

    async def create(self, body: Mapping[str, Any], namespace: str) -> Body:
        """Create an object by POST.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        ...

    async def dry_run(self, body: Mapping[str, Any], namespace: str) -> Sequence[str]:
        """Ask whether an object could be created, without making it; return what the server warns of.

        Raises:
            KubeError: as `create` would.
        """
        ...

    async def apply(self, body: Mapping[str, Any], namespace: str) -> Body:
        """Server-side apply, taking over fields that others manage."""
        ...

    async def patch(self, ref: Ref, namespace: str, body: Mapping[str, Any], *, subresource: str | None = None) -> Body:
        """Merge-patch an object or its subresource.

        `metadata.uid` and `metadata.resourceVersion` in the body are preconditions.

        Raises:
            ConflictError: a precondition failed.
            NotFoundError: the object does not exist.
        """
        ...

    async def delete(self, ref: Ref, namespace: str, *, uid: str | None = None) -> None:
        """Delete an object, its dependents in the background.

        Raises:
            ConflictError: the object of that name has another uid.
            NotFoundError: it is gone already.
        """
        ...

    async def logs(
        self, namespace: str, pod: str, *, container: str, tail_lines: int, limit_bytes: int, previous: bool = False
    ) -> str:
        """Read the end of the log of a pod's container; without its name a pod with sidecars is refused.

        `previous`: of the container before its last restart.
        """
        ...

    async def offers(self, group_version: str) -> bool:
        """Tell whether the server has an API group and version, such as policy/v1."""
        ...


def ref_of(body: Mapping[str, Any]) -> Ref:
    """Return the reference to an object."""
    return Ref(str(body["apiVersion"]), str(body["kind"]), str(body["metadata"]["name"]))
