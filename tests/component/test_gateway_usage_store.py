"""The store of usage over HTTP: an API server that keeps VicunaUsages, has none, or does not respond."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from support.gateway import answering
from support.kubeconfig import write_kubeconfig
from support.usage import Clock, Replica, key
from support.usage_scenarios import DAY, SCENARIOS, Stores
from vicuna_server.errors import OverloadedError
from vicuna_server.gateway.options import NamespacedName
from vicuna_server.gateway.usage_store import ClusterStore, NoStoreError

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


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Api]:
    api = Api()
    async with answering(api.answer) as api.url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", api.url)))
        yield api


@pytest.fixture
async def stores(api: Api) -> AsyncIterator[Stores]:
    made: list[ClusterStore] = []

    def make() -> ClusterStore:
        made.append(ClusterStore(NamespacedName("sys", "gw")))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_it_keeps_what_replicas_count(scenario: Callable[[Stores], Awaitable[None]], stores: Stores) -> None:
    await scenario(stores)


@pytest.mark.parametrize("status", [403, 404])
async def test_an_api_server_without_the_kind_is_told_from_one_that_is_away(
    api: Api, stores: Stores, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    api.refuse = status
    with pytest.raises(NoStoreError):
        await stores().slots(DAY)
    replica = Replica(stores(), Clock(), "a")
    (await replica.accounting.open(key(), "m", 5)).record(0, 5)
    await replica.writer.round()
    assert replica.writer.absent
    assert "there is no store" in caplog.text
    api.refuse = 0
    await replica.writer.round()
    assert len(api.objects) == 1


async def test_an_api_server_that_fails_is_asked_again(api: Api, stores: Stores) -> None:
    replica = Replica(stores(), Clock(), "a")
    (await replica.accounting.open(key(), "m", 5)).record(0, 5)
    api.refuse = 500
    await replica.writer.round()
    assert replica.writer.absent is None
    api.refuse = 0
    await replica.writer.round()
    assert api.objects[f"gw-{DAY}-0"]["usage"] == [{"key": "alice", "model": "m", "requests": 1, "completionTokens": 5}]


async def test_without_a_cluster_the_store_is_unreachable_and_the_gateway_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stores: Stores
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    replica = Replica(stores(), Clock(), "a")
    running = asyncio.create_task(replica.accounting.run())
    with pytest.raises(OverloadedError, match="the store of usage does not answer"):
        await replica.accounting.open(key(tokens_per_day=5), "m", 5)
    running.cancel()
    await replica.writer.close()
