"""The Kube port on `kubernetes.aio`: plain dicts in and out."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from vicuna_contract.names import FIELD_MANAGER
from vicuna_operator.errors import NotFoundError
from vicuna_operator.kube.connection import Connection, connection_of
from vicuna_operator.kube.port import Body, ref_of
from vicuna_operator.kube.transport import OnRequest, Transport, load_configuration
from vicuna_operator.kube.warnings import warnings_in
from vicuna_operator.kube.write_priority import WritePriority
from vicuna_operator.planning.actions import Ref

__all__ = ["KubeClient"]

_PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}
_DISCOVERY_SECONDS = 300.0
_MERGE_PATCH = "application/merge-patch+json"
_METADATA = "application/json;as={};g=meta.k8s.io;v=v1, application/json"
_APPLY_PATCH = "application/apply-patch+yaml"


class KubeClient:
    """The API server of KUBECONFIG, else of the pod's service account, else of ~/.kube/config."""

    def __init__(self, configuration: Any, *, on_request: OnRequest = lambda *_: None) -> None:
        self._transport = Transport(configuration, on_request)
        self._offers: dict[str, tuple[float, bool]] = {}
        self._priority = WritePriority()

    @classmethod
    async def connect(cls, *, on_request: OnRequest = lambda *_: None) -> Self:
        """Find the credentials; nothing is sent yet. `on_request` is called after every request, see `OnRequest`.

        Raises:
            UnavailableError: there are none, or they cannot be read.
        """
        return cls(await load_configuration(), on_request=on_request)

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def connection(self) -> Connection:
        """Read the credentials again, for kopf's own connections."""
        await self._transport.reload()
        return await connection_of(self._transport.configuration)

    async def get(self, ref: Ref, namespace: str) -> Body | None:
        """Read one object; None if it does not exist."""
        try:
            return await self._transport.json("GET", _path(ref.api_version, ref.kind, namespace, ref.name))
        except NotFoundError:
            return None

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
        """Read the objects of a kind; `limit` makes it one page of at most so many."""
        query: list[tuple[str, str]] = []
        if label_selector:
            query.append(("labelSelector", label_selector))
        if field_selector:
            query.append(("fieldSelector", field_selector))
        if limit is not None:
            query.append(("limit", str(limit)))
        found = await self._transport.json("GET", _path(api_version, kind, namespace), query)
        # items of a list carry neither apiVersion nor kind
        return [{"apiVersion": api_version, "kind": kind, **item} for item in found.get("items") or ()]

    async def create(self, body: Mapping[str, Any], namespace: str) -> Body:
        """Create an object by POST."""
        path = _path(body["apiVersion"], body["kind"], namespace)
        async with self._priority.slot(body["kind"]):
            return await self._transport.json("POST", path, [("fieldManager", FIELD_MANAGER)], body)

    async def dry_run(self, body: Mapping[str, Any], namespace: str) -> Sequence[str]:
        """Create an object by POST with `dryRun=All`; return the texts of the answer's Warning headers."""
        path = _path(body["apiVersion"], body["kind"], namespace)
        query = [("fieldManager", FIELD_MANAGER), ("dryRun", "All")]
        async with self._priority.slot(body["kind"]):
            _, headers = await self._transport.request("POST", path, query, body)
        return warnings_in(headers)

    async def apply(self, body: Mapping[str, Any], namespace: str) -> Body:
        """Server-side apply with force."""
        ref = ref_of(body)
        path = _path(ref.api_version, ref.kind, namespace, ref.name)
        query = [("fieldManager", FIELD_MANAGER), ("force", "true")]
        async with self._priority.slot(ref.kind):
            return await self._transport.json("PATCH", path, query, body, _APPLY_PATCH)

    async def patch(self, ref: Ref, namespace: str, body: Mapping[str, Any], *, subresource: str | None = None) -> Body:
        """Merge-patch an object or its subresource."""
        path = _path(ref.api_version, ref.kind, namespace, ref.name)
        if subresource:
            path += f"/{subresource}"
        async with self._priority.slot(ref.kind):
            return await self._transport.json("PATCH", path, [("fieldManager", FIELD_MANAGER)], body, _MERGE_PATCH)

    async def delete(self, ref: Ref, namespace: str, *, uid: str | None = None) -> None:
        """Delete an object, its dependents in the background."""
        options: Body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        async with self._priority.slot(ref.kind):
            await self._transport.request("DELETE", _path(ref.api_version, ref.kind, namespace, ref.name), (), options)

    async def logs(
        self, namespace: str, pod: str, *, container: str, tail_lines: int, limit_bytes: int, previous: bool = False
    ) -> str:
        """Read the end of the log of a pod's container."""
        path = _path("v1", "Pod", namespace, pod) + "/log"
        query = [("container", container), ("tailLines", str(tail_lines)), ("limitBytes", str(limit_bytes))]
        query += [("previous", "true")] if previous else []
        text, _ = await self._transport.request("GET", path, query)
        return text.decode(errors="replace")

    async def offers(self, group_version: str) -> bool:
        """Ask discovery, at most every five minutes."""
        asked, answer = self._offers.get(group_version, (float("-inf"), False))
        if time.monotonic() - asked < _DISCOVERY_SECONDS:
            return answer
        try:
            await self._transport.json("GET", "/api/v1" if group_version == "v1" else f"/apis/{group_version}")
            answer = True
        except NotFoundError:
            answer = False
        self._offers[group_version] = (time.monotonic(), answer)
        return answer

    async def open_list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        query: Mapping[str, str],
        limits: Any,
        *,
        metadata_only: bool,
    ) -> aiohttp.ClientResponse:
        """Send a GET for a list or a watch of a kind; return the answer, its body not read yet.

        Raises:
            KubeError: there is none, or not a good one.
        """
        form = "PartialObjectMetadata" if "watch" in query else "PartialObjectMetadataList"
        accept = _METADATA.format(form) if metadata_only else "application/json"
        path = _path(api_version, kind, namespace)
        return await self._transport.stream(path, list(query.items()), accept, limits)


def _path(api_version: str, kind: str, namespace: str | None, name: str | None = None) -> str:
    parts = ["api" if "/" not in api_version else "apis", *api_version.split("/")]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts.append(_PLURALS.get(kind, kind.lower() + "s"))
    if name is not None:
        parts.append(name)
    return "/" + "/".join(quote(part, safe="") for part in parts)
