"""The gateways' demand is watched over HTTP, whole objects with our label alone, and wakes a model that sleeps."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.memory_kube import MemoryKube
from support.memory_server import MemoryServer
from vicuna_contract import names as c
from vicuna_contract.demand import Demand, entries_of
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.controller.reconciler import Planning, Reconciler
from vicuna_operator.controller.snapshot import Key, Snapshot
from vicuna_operator.controller.watches import watch_others
from vicuna_operator.kube.client import KubeClient
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.plan import claims_to_read, plan
from vicuna_operator.planning.stopped_status import refused

KEY = ("team", "m")
SPEC = {
    "weights": {"base": {"source": "hf://org/base"}},
    "storage": {"size": "1Gi"},
    "serving": {"autoscaling": {"minReplicas": 0, "maxReplicas": 4}},
}


def model() -> Model:
    return parse_model({"metadata": {"name": "m", "namespace": "team", "uid": "u"}, "spec": SPEC})


def usage(name: str, *demand: Demand, label: str = c.LABEL_DEMAND) -> dict[str, Any]:
    metadata = {"name": name, "labels": {label: "true"}}
    return {"apiVersion": c.API_VERSION, "kind": c.USAGE_KIND, "metadata": metadata, "demand": entries_of(demand)}


class Watching:
    """The operator's own watches on a server in memory; `woken` says when which model is woken."""

    def __init__(self, server: MemoryServer, kube: KubeClient) -> None:
        self.server = server
        self.woken: asyncio.Queue[Key] = asyncio.Queue()
        self.reconciler = Reconciler(
            kube,
            Snapshot(),
            Planning(plan=plan, claims_to_read=claims_to_read, refused=refused),
            PlanConfig(server_image="registry.example/server:1"),
            wake=self.woken.put_nowait,
        )
        self.task = asyncio.create_task(watch_others(kube, self.reconciler, ["team"], "gateways"))

    async def total(self) -> int | None:
        found = await self.reconciler.demands.view(model())
        return None if found is None else found.total

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def server() -> AsyncIterator[MemoryServer]:
    async with MemoryServer(MemoryKube()) as server:
        yield server


@pytest.fixture
async def client(server: MemoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeClient]:
    monkeypatch.setenv("KUBECONFIG", str(server.write_kubeconfig(tmp_path / "kubeconfig")))
    client = await KubeClient.connect()
    yield client
    await client.close()


async def test_what_gateways_state_beside_the_operator_wakes_a_model_that_sleeps(
    server: MemoryServer, client: KubeClient
) -> None:
    server.kube.put(usage("old", Demand("team", "m", 2, 0)), "gateways")
    server.kube.put(usage("day", Demand("team", "m", 50, 0), label=c.LABEL_DAY), "gateways")
    server.kube.put(usage("foreign", Demand("team", "m", 50, 0)), "elsewhere")
    watching = Watching(server, client)
    async with asyncio.timeout(30):
        assert await watching.total() == 2
        watching.reconciler.demands.set_enough(KEY, 16)
        while not watching.woken.empty():
            watching.woken.get_nowait()
        server.kube.put(usage("new", Demand("team", "m", 1, 14), Demand("team", "other", 9, 9)), "gateways")
        assert await watching.woken.get() == KEY
        assert await watching.total() == 17
    await watching.close()


async def test_a_right_that_is_missing_is_told_and_ends_nothing(server: MemoryServer, client: KubeClient) -> None:
    server.forbidden = {"gateways"}
    watching = Watching(server, client)
    async with asyncio.timeout(30):
        assert await watching.total() is None
        server.kube.put(usage("a", Demand("team", "m", 1, 0)), "gateways")
        server.forbidden = set()
        assert await watching.woken.get() == KEY
        assert await watching.total() == 1
    assert not watching.task.done()
    await watching.close()
