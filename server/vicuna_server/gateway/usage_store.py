"""The store of usage: VicunaUsage objects in the gateway's namespace, one per replica and day.

Usage has a kind of its own, so that RBAC can allow these writes and nothing else. An object has one writer, and every
write states the resourceVersion that it is based on.
"""

from collections.abc import Collection
from typing import Any, Protocol

from vicuna_contract.names import API_VERSION, LABEL_DAY, LABEL_GATEWAY, USAGE_PLURAL
from vicuna_server.gateway.api_server import ApiServer, ApiStatusError
from vicuna_server.gateway.options import NamespacedName
from vicuna_server.gateway.slot import Slot

__all__ = ["ClusterStore", "ConflictError", "NoStoreError", "Store"]

_METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
_GONE = (404, 409)


class ConflictError(Exception):
    """The object has changed since it was read: another process has written, made or deleted it."""


class NoStoreError(Exception):
    """The cluster has no VicunaUsage, or the gateway may not use it."""


class Store(Protocol):
    """Where slots are kept."""

    def fresh(self, day: str) -> Slot:
        """Return the first slot of a day, before it was written."""
        ...

    async def slots(self, day: str) -> list[Slot]:
        """Return all slots of a day, in their newest state.

        Raises:
            NoStoreError: there is no store.
            Exception: no response.
        """
        ...

    async def write(self, slot: Slot) -> Slot:
        """Make or replace an object; return it as it is stored.

        Raises:
            ConflictError: it has changed since it was read.
            Exception: no response; it may have been written.
        """
        ...

    async def remove(self, before: str) -> None:
        """Delete the slots of all days before one."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class ClusterStore:
    """The objects of one gateway at the API server.

    Args:
        service: the gateway's own Service, whose namespace they are in.
    """

    def __init__(self, service: NamespacedName) -> None:
        self._service = service
        self._api = ApiServer()
        self._connected = False
        self._path = f"/apis/{API_VERSION}/namespaces/{service.namespace}/{USAGE_PLURAL}"

    def fresh(self, day: str) -> Slot:
        """Return the first slot of a day, before it was written."""
        return Slot.fresh(*self._service, day)

    async def slots(self, day: str) -> list[Slot]:
        """Return all slots of a day; without a resourceVersion the API server returns the newest state."""
        found = await self._ask("GET", self._path, query=self._of_day(day))
        return [Slot.of(item) for item in _items(found)]

    async def write(self, slot: Slot) -> Slot:
        """Create an object that has no resourceVersion yet, else replace it."""
        known = "resourceVersion" in slot.metadata
        try:
            if known:
                return Slot.of(await self._ask("PUT", f"{self._path}/{slot.name}", slot.body()))
            return Slot.of(await self._ask("POST", self._path, slot.body()))
        except ApiStatusError as error:
            if error.status in _GONE:
                raise ConflictError(slot.name) from None
            raise

    async def remove(self, before: str) -> None:
        """Delete the slots of all days before one."""
        query = {"labelSelector": f"{LABEL_GATEWAY}={self._service.name}"}
        found = await self._ask("GET", self._path, query=query, accept=_METADATA)
        for item in _items(found):
            if str((item["metadata"].get("labels") or {}).get(LABEL_DAY, before)) < before:
                await self._delete(item["metadata"]["name"])

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def _delete(self, name: str) -> None:
        try:
            await self._ask("DELETE", f"{self._path}/{name}")
        except ApiStatusError as error:
            if error.status not in _GONE:  # another replica has deleted it
                raise

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
        if not self._connected:
            await self._api.connect()
            self._connected = True
        try:
            return await self._api.ask(method, path, body, **how)
        except ApiStatusError as error:
            if error.status == 403 or (error.status == 404 and path == self._path):
                raise NoStoreError(str(error)) from None
            raise

    def _of_day(self, day: str) -> dict[str, str]:
        return {"labelSelector": f"{LABEL_GATEWAY}={self._service.name},{LABEL_DAY}={day}"}


def _items(found: dict[str, Any]) -> Collection[dict[str, Any]]:
    return [item for item in found.get("items") or () if isinstance(item, dict) and "name" in item.get("metadata", {})]
