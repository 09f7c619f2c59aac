"""The store of usage: VicunaUsage objects in the gateway's namespace, one per replica and day.

Usage has a kind of its own, so that RBAC can allow these writes and nothing else. An object has one writer, and every
write states the resourceVersion that it is based on.
"""

from typing import Protocol

from vicuna_contract.names import LABEL_DAY, LABEL_GATEWAY
from vicuna_server.gateway.options import NamespacedName
from vicuna_server.gateway.slot import Slot
from vicuna_server.gateway.usage_api import ConflictError, NoStoreError, UsageApi

__all__ = ["ClusterStore", "ConflictError", "NoStoreError", "Store"]


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
        self._api = UsageApi(service.namespace)

    def fresh(self, day: str) -> Slot:
        """Return the first slot of a day, before it was written."""
        return Slot.fresh(*self._service, day)

    async def slots(self, day: str) -> list[Slot]:
        """Return all slots of a day; without a resourceVersion the API server returns the newest state."""
        return [Slot.of(item) for item in await self._api.list({LABEL_GATEWAY: self._service.name, LABEL_DAY: day})]

    async def write(self, slot: Slot) -> Slot:
        """Create an object that has no resourceVersion yet, else replace it."""
        return Slot.of(await self._api.write(slot.body()))

    async def remove(self, before: str) -> None:
        """Delete the slots of all days before one."""
        for item in await self._api.list({LABEL_GATEWAY: self._service.name}, metadata_only=True):
            if str((item["metadata"].get("labels") or {}).get(LABEL_DAY, before)) < before:
                await self._api.delete(item["metadata"]["name"])

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()
