"""MemoryKube over HTTP: discovery, reads, writes and watches, enough for kopf and for our own client."""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from support.kubeconfig import write_kubeconfig
from support.memory_kube import Body, MemoryKube, labels_match
from vicuna_operator.errors import AlreadyExistsError, ForbiddenError, KubeError
from vicuna_operator.planning.actions import Ref

KINDS = {
    "vicunamodels": ("vicuna.dev/v1alpha1", "VicunaModel"),
    "vicunausages": ("vicuna.dev/v1alpha1", "VicunaUsage"),
    "jobs": ("batch/v1", "Job"),
    "deployments": ("apps/v1", "Deployment"),
    "pods": ("v1", "Pod"),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim"),
    "services": ("v1", "Service"),
    "events": ("v1", "Event"),
    "leases": ("coordination.k8s.io/v1", "Lease"),
    "namespaces": ("v1", "Namespace"),  # kopf waits for discovery to show it
}
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
_REASONS: dict[type[KubeError], str] = {AlreadyExistsError: "AlreadyExists"}


class MemoryServer:
    """Serves one MemoryKube; `requests` are (method, path with query), `token` is the only one it accepts."""

    def __init__(self, kube: MemoryKube, token: str = "good") -> None:
        self.kube = kube
        self.token = token
        self.requests: list[tuple[str, str]] = []
        self.forbidden: set[str] = set()  # namespaces in which nothing may be done
        self.forgotten = 0  # no watch can begin at an older version
        self._log: list[tuple[int, str, Body]] = []
        self._changed = asyncio.Condition()
        self._wakers: set[asyncio.Task[None]] = set()
        kube.listen(self._record)

    async def __aenter__(self) -> "MemoryServer":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def write_kubeconfig(self, path: Path, token: str | None = None) -> Path:
        return write_kubeconfig(path, self.url, token or self.token)

    async def until(self, condition: Any, seconds: float = 20) -> None:
        """Wait until a condition of the objects or of the calls holds; it is looked at after every request."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    def _record(self, event: str, body: Body) -> None:
        self._log.append((int(body["metadata"]["resourceVersion"]), event, body))
        self._wake()

    def _wake(self) -> None:
        async def wake() -> None:
            async with self._changed:
                self._changed.notify_all()

        task = asyncio.ensure_future(wake())
        self._wakers.add(task)
        task.add_done_callback(self._wakers.discard)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        try:
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                return _status(401, "Unauthorized", "Unauthorized")
            return await self._route(request)
        except KubeError as error:
            reason = _REASONS.get(type(error), type(error).__name__.removesuffix("Error"))
            return _status(error.status or 500, reason, str(error))
        finally:
            self._wake()

    def _check_allowed(self, plural: str, namespace: str) -> None:
        if namespace in self.forbidden:
            raise ForbiddenError(f'{plural} is forbidden: cannot list in the namespace "{namespace}"', 403)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        if request.path in ("/api", "/apis"):
            return web.json_response(self._groups(request.path))
        group_version, rest = (parts[1], parts[2:]) if parts[0] == "api" else ("/".join(parts[1:3]), parts[3:])
        if not rest:
            return self._resources(group_version)
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
            self._check_allowed(rest[0], namespace)
        if rest[0] not in KINDS or KINDS[rest[0]][0] != group_version or group_version not in self.kube.groups:
            return _status(404, "NotFound", "the server could not find the requested resource")
        _, kind = KINDS[rest[0]]
        if len(rest) == 1:
            return await self._collection(request, group_version, kind, namespace)
        assert namespace is not None
        return await self._object(request, Ref(group_version, kind, rest[1]), namespace, (*rest, None)[2])

    async def _collection(
        self, request: web.Request, group_version: str, kind: str, namespace: str | None
    ) -> web.StreamResponse:
        if request.method == "POST" and request.query.get("dryRun") == "All":
            assert namespace is not None
            body = await request.json()
            answer = web.json_response(body, status=201)
            for text in await self.kube.dry_run(body, namespace):
                answer.headers.add("Warning", f"299 - {json.dumps(text)}")
            return answer
        if request.method == "POST":
            assert namespace is not None
            return web.json_response(await self.kube.create(await request.json(), namespace), status=201)
        selector = request.query.get("labelSelector")
        if request.query.get("watch") == "true":
            return await self._watch(request, group_version, kind, namespace, selector)
        items = await self.kube.list(
            group_version,
            kind,
            namespace,
            label_selector=selector,
            field_selector=request.query.get("fieldSelector"),
        )
        version = str(self._log[-1][0]) if self._log else "0"
        return web.json_response({"kind": f"{kind}List", **_page(request, items, version)})

    async def _object(
        self, request: web.Request, ref: Ref, namespace: str, subresource: str | None
    ) -> web.StreamResponse:
        match request.method:
            case "GET" if subresource == "log":
                tail = int(request.query["tailLines"])
                container = request.query["container"]
                text = await self.kube.logs(
                    namespace, ref.name, container=container, tail_lines=tail, limit_bytes=10**6
                )
                return web.Response(text=text)
            case "GET":
                found = await self.kube.get(ref, namespace)
                return web.json_response(found) if found else _status(404, "NotFound", f"{ref.name} not found")
            case "PATCH" if request.content_type == "application/apply-patch+yaml":
                return web.json_response(await self.kube.apply(await request.json(), namespace))
            case "PATCH":
                assert request.content_type == "application/merge-patch+json"
                body = await request.json()
                return web.json_response(await self.kube.patch(ref, namespace, body, subresource=subresource))
            case _:
                options = await request.json()
                uid = options.get("preconditions", {}).get("uid")
                await self.kube.delete(ref, namespace, uid=uid)
                return web.json_response({"kind": "Status", "status": "Success"})

    async def _watch(
        self,
        request: web.Request,
        group_version: str,
        kind: str,
        namespace: str | None,
        selector: str | None,
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        since = int(request.query.get("resourceVersion") or 0)
        if since < self.forgotten:
            await response.write(json.dumps(_EXPIRED).encode() + b"\n")
            return response
        only_metadata = _only_metadata(request, "PartialObjectMetadata")
        while True:
            for version, event, body in [entry for entry in self._log if entry[0] > since]:
                since = version
                is_asked = (body["apiVersion"], body["kind"]) == (group_version, kind)
                if is_asked and _selected(body["metadata"], namespace, selector):
                    shown = {"type": event, "object": _shown(body, only_metadata)}
                    await response.write(json.dumps(shown).encode() + b"\n")
            async with self._changed:
                await self._changed.wait_for(partial(self._is_behind, since))

    def _is_behind(self, seen: int) -> bool:
        return bool(self._log) and self._log[-1][0] > seen

    def _groups(self, path: str) -> Body:
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        groups = []
        for group, version in (item.split("/") for item in sorted(self.kube.groups) if "/" in item):
            entry = {"groupVersion": f"{group}/{version}", "version": version}
            groups.append({"name": group, "versions": [entry], "preferredVersion": entry})
        return {"kind": "APIGroupList", "groups": groups}

    def _resources(self, group_version: str) -> web.Response:
        if group_version not in self.kube.groups:
            return _status(404, "NotFound", "the server could not find the requested resource")
        resources: list[Body] = [
            {
                "name": plural,
                "singularName": kind.lower(),
                "kind": kind,
                "namespaced": kind != "Namespace",
                "verbs": _VERBS,
                "shortNames": [],
                "categories": [],
            }
            for plural, (its_group_version, kind) in KINDS.items()
            if its_group_version == group_version
        ]
        return web.json_response({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources})


_EXPIRED = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}


def _page(request: web.Request, items: list[Body], version: str) -> Body:
    only_metadata = _only_metadata(request, "PartialObjectMetadataList")
    bare = [_shown(item, only_metadata, "apiVersion", "kind") for item in items]
    first = int(request.query.get("continue") or 0)
    last = first + int(request.query.get("limit") or len(bare))
    more = {"continue": str(last)} if last < len(bare) else {}
    return {"metadata": {"resourceVersion": version, **more}, "items": bare[first:last]}


def _only_metadata(request: web.Request, kind: str) -> bool:
    return f"as={kind};" in request.headers.get("Accept", "")


def _shown(body: Body, only_metadata: bool, *but: str) -> Body:
    return {k: v for k, v in body.items() if k not in but and (k == "metadata" or not only_metadata)}


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
    return web.json_response(body, status=code)


def _selected(metadata: Body, namespace: str | None, selector: str | None) -> bool:
    return namespace in (None, metadata["namespace"]) and labels_match(metadata.get("labels") or {}, selector)
