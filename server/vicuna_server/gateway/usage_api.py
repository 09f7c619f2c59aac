"""Requests to the API server about VicunaUsage objects in one namespace."""

from collections.abc import Mapping
from typing import Any

from vicuna_contract.names import API_VERSION, USAGE_PLURAL
from vicuna_server.gateway.api_server import ApiServer, ApiStatusError

__all__ = ["ConflictError", "NoStoreError", "UsageApi"]

_METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
_GONE = (404, 409)
Body = dict[str, Any]


class ConflictError(Exception):
    """The object has changed since it was read: another process has written, made or deleted it."""


class NoStoreError(Exception):
    """The cluster has no VicunaUsage, or the gateway may not use it."""


class UsageApi:
    """The VicunaUsage objects of a namespace; connects with the first request.

    Args:
        namespace: the gateway's own.
    """

    def __init__(self, namespace: str) -> None:
        self._api = ApiServer()
        self._connected = False
        self._path = f"/apis/{API_VERSION}/namespaces/{namespace}/{USAGE_PLURAL}"

    async def list(self, labels: Mapping[str, str], *, metadata_only: bool = False) -> list[Body]:
        """Return the objects with these labels, in their newest state.

        Raises:
            NoStoreError: there is no store.
            ApiStatusError, aiohttp.ClientError, OSError: no list.
        """
        how: Body = {"accept": _METADATA} if metadata_only else {}
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        found = await self._ask("GET", self._path, query={"labelSelector": selector}, **how)
        items = found.get("items") or ()
        return [item for item in items if isinstance(item, dict) and "name" in item.get("metadata", {})]

    async def write(self, body: Body) -> Body:
        """Create an object that has no resourceVersion yet, else replace it; return it as it is stored.

        Raises:
            ConflictError: it has changed since it was read.
            NoStoreError, ApiStatusError, aiohttp.ClientError, OSError: no response; it may have been written.
        """
        metadata = body["metadata"]
        try:
            if "resourceVersion" in metadata:
                return await self._ask("PUT", f"{self._path}/{metadata['name']}", body)
            return await self._ask("POST", self._path, body)
        except ApiStatusError as error:
            if error.status in _GONE:
                raise ConflictError(metadata["name"]) from None
            raise

    async def delete(self, name: str) -> None:
        """Delete an object; that another replica has deleted it is no error.

        Raises:
            NoStoreError, ApiStatusError, aiohttp.ClientError, OSError: no response; it may have been deleted.
        """
        try:
            await self._ask("DELETE", f"{self._path}/{name}")
        except ApiStatusError as error:
            if error.status not in _GONE:
                raise

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def _ask(self, method: str, path: str, body: Body | None = None, **how: Any) -> Body:
        if not self._connected:
            await self._api.connect()
            self._connected = True
        try:
            return await self._api.ask(method, path, body, **how)
        except ApiStatusError as error:
            if error.status == 403 or (error.status == 404 and path == self._path):
                raise NoStoreError(str(error)) from None
            raise
