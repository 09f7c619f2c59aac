"""The collection of VicunaUsages at an API server, over HTTP."""

from typing import Any

from aiohttp import web

PATH = "/apis/vicuna.dev/v1alpha1/namespaces/sys/vicunausages"
Body = dict[str, Any]


class Api:
    """The collection of VicunaUsages; `refuse` is a status to answer everything with."""

    def __init__(self) -> None:
        self.url = ""
        self.refuse = 0
        self.asked: list[tuple[str, str]] = []
        self.objects: dict[str, Body] = {}
        self._version = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path))
        if self.refuse:
            return web.Response(status=self.refuse, text="404 page not found")
        assert request.path.startswith(PATH)
        name = request.path.removeprefix(PATH).strip("/")
        match request.method:
            case "GET":
                return web.json_response({"items": self._selected(request)})
            case "DELETE":
                found = self.objects.pop(name, None)
                return web.json_response({"kind": "Status"}, status=200 if found else 404)
        body = await request.json()
        return self._put(name or body["metadata"]["name"], body, known=bool(name))

    def _put(self, name: str, body: Body, *, known: bool) -> web.Response:
        present = self.objects.get(name)
        if (present is not None) != known:
            return web.json_response({"reason": "NotFound" if known else "AlreadyExists"}, status=404 if known else 409)
        if present and present["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            return web.json_response({"reason": "Conflict"}, status=409)
        self._version += 1
        more = {"resourceVersion": str(self._version), "managedFields": [{"manager": "vicuna-gateway"}]}
        assert "managedFields" not in body["metadata"]
        self.objects[name] = {**body, "metadata": {**body["metadata"], **more}}
        return web.json_response(self.objects[name], status=200 if known else 201)

    def _selected(self, request: web.Request) -> list[Body]:
        wanted = dict(each.split("=") for each in request.query["labelSelector"].split(","))
        found = [each for each in self.objects.values() if wanted.items() <= each["metadata"]["labels"].items()]
        if "PartialObjectMetadataList" in request.headers["Accept"]:
            return [{"metadata": each["metadata"]} for each in found]
        return found
