"""The store of usage over HTTP: an API server that keeps VicunaUsages, has none, or does not respond."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from support.gateway import answering
from support.kubeconfig import write_kubeconfig
from support.usage import Clock, Replica, key
from support.usage_api import Api
from support.usage_scenarios import DAY, SCENARIOS, Stores
from vicuna_server.errors import OverloadedError
from vicuna_server.gateway.catalogue import Catalogue, Model
from vicuna_server.gateway.demand import DemandCounts
from vicuna_server.gateway.demand_writer import demand_writer
from vicuna_server.gateway.options import NamespacedName
from vicuna_server.gateway.usage_store import ClusterStore, NoStoreError


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


async def test_demand_is_kept_beside_usage_and_neither_is_taken_for_the_other(api: Api, stores: Stores) -> None:
    store, catalogue, counts = stores(), Catalogue(), DemandCounts()
    replica = Replica(store, Clock(), "a")
    (await replica.accounting.open(key(), "m", 5)).record(0, 5)
    await replica.writer.round()
    catalogue.put(Model("team", "tiny", "tiny", autoscaled=True))
    writer = demand_writer(NamespacedName("sys", "gw"), catalogue, counts)
    with counts.under_way(("team", "tiny")), counts.holding(("team", "tiny")):
        await writer.round()
    (demand,) = [body for body in api.objects.values() if "demand" in body]
    assert demand["demand"] == [{"namespace": "team", "name": "tiny", "underWay": 1, "held": 1}]
    demand["usage"] = [{"key": "alice", "model": "m", "requests": 100}]
    assert [slot.number for slot in await store.slots(DAY)] == [0]
    await store.remove("2999-01-01")
    assert list(api.objects.values()) == [demand]
    await writer.close()
    assert not api.objects
