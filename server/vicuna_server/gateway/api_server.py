"""Requests to the API server of the cluster."""

import json
import os
from collections.abc import Mapping
from typing import Any

import aiohttp
from kubernetes.aio import client as aio_client
from kubernetes.aio import config as untyped_config

from vicuna_contract.cluster import configure
from vicuna_server.errors import UnreachableError

__all__ = ["ApiServer", "ApiStatusError"]

_PATIENCE = aiohttp.ClientTimeout(total=60, connect=10)

aio_config: Any = untyped_config
Body = dict[str, Any]


class ApiStatusError(Exception):
    """The API server responded with a status that is not expected."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status = status


class ApiServer:
    """The API server of KUBECONFIG, else of the pod's service account, else of ~/.kube/config."""

    def __init__(self) -> None:
        self._client: Any = None

    async def connect(self) -> None:
        """Read the credentials, again if they were read before; nothing is sent.

        Raises:
            UnreachableError: `NoCluster`.
        """
        configuration = aio_client.Configuration()
        try:
            await configure(configuration, aio_config, os.environ)
        except ValueError as error:
            raise UnreachableError("NoCluster", str(error)) from error
        await self.close()
        configuration.connection_pool_maxsize = 100
        self._client = aio_client.ApiClient(configuration)
        self._client.user_agent = "vicuna-gateway"

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()

    async def get(self, path: str, query: Mapping[str, str], limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """Return a response with status 200 or 201, its body not read yet.

        Raises:
            ApiStatusError: another status.
            aiohttp.ClientError, OSError: no response.
        """
        return await self._send("GET", path, query, None, limits)

    async def ask(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        query: Mapping[str, str] | None = None,
        accept: str = "application/json",
        seconds: float = 10.0,
    ) -> Body:
        """Send one request, and return the object of its response within `seconds`.

        Raises:
            ApiStatusError: another status than 200 and 201, or a body that is not a JSON object.
            aiohttp.ClientError, OSError: no response.
        """
        limits = aiohttp.ClientTimeout(total=seconds)
        response = await self._send(method, path, query or {}, body, limits, accept)
        async with response:
            text = await response.text()
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ApiStatusError(response.status, "the response is not a JSON object")
        return found

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Body | None,
        limits: aiohttp.ClientTimeout,
        accept: str = "application/json",
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": accept} | ({} if body is None else {"Content-Type": "application/json"})
        method, url, headers, _, _ = await self._client.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, auth_settings=["BearerToken"]
        )
        response: aiohttp.ClientResponse = (
            await self._client.call_api(method, url, headers, body, _request_timeout=limits)
        ).response
        if response.status not in (200, 201):
            text = (await response.text())[:500]
            response.release()
            if response.status == 401:  # the service account's token rotates: read it again
                await self.connect()
            raise ApiStatusError(response.status, text)
        return response

    async def offers(self, group_version: str) -> bool:
        """Whether the API server knows a group in this version."""
        try:
            response = await self.get(f"/apis/{group_version}", {}, _PATIENCE)
        except ApiStatusError as error:
            if error.status == 404:
                return False
            raise
        response.release()
        return True
