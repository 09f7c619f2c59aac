"""What a gateway reads from an API server, and keeps while that does not respond."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.gateway import FakeApi, fake_api
from support.kubeconfig import write_kubeconfig
from support.serving import eventually
from vicuna_server.gateway.catalogue import Catalogue
from vicuna_server.gateway.cluster import Cluster
from vicuna_server.gateway.keys import KeyRing, hash_of
from vicuna_server.gateway.rates import Rates

MODELS = "/apis/vicuna.dev/v1alpha1/vicunamodels"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
SECRETS = "/api/v1/namespaces/system/secrets"
MANAGED = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
OWN_SLICES = "/apis/discovery.k8s.io/v1/namespaces/system/endpointslices"


def _model(name: str, namespace: str = "team") -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {}}


def _slice(name: str, service: str, *addresses: str, namespace: str = "team") -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": service, **MANAGED}
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "ports": [{"name": "http", "port": 8000}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "namespace": namespace, "name": f"{service}-0123abcd-6d5f-{place}"},
            }
            for place, address in enumerate(addresses)
        ],
    }


def _secret(**tokens: str) -> dict[str, Any]:
    entries = {name: json.dumps({"sha256": hash_of(token)}).encode() for name, token in tokens.items()}
    data = {name: base64.b64encode(entry).decode() for name, entry in entries.items()}
    return {"metadata": {"namespace": "system", "name": "keys"}, "data": data}


class _Learned:
    def __init__(self) -> None:
        self.catalogue, self.rates, self.ring = Catalogue(), Rates(), KeyRing()
        self.synced = asyncio.Event()

    def take(self, ring: KeyRing) -> None:
        self.ring = ring

    def state(self) -> dict[str, list[str]]:
        models = self.catalogue.visible(lambda _: True)
        return {model.id: [each.url for each in self.catalogue.endpoints(model)] for model in models}


@asynccontextmanager
async def _watching(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *namespaces: str
) -> AsyncIterator[_Learned]:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", api.url)))
    monkeypatch.setattr("vicuna_server.gateway.reflector._FIRST_DELAY", 0.01)
    learned = _Learned()
    cluster = Cluster(learned.catalogue, namespaces)
    cluster.watch_keys("system", "keys", learned.take)
    cluster.watch_replicas("system", "gateway", learned.rates)
    running = asyncio.create_task(cluster.run(learned.synced))
    try:
        await asyncio.wait_for(learned.synced.wait(), 20)
        yield learned
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_models_endpoints_keys_and_replicas_follow_the_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with fake_api() as api:
        api.put(MODELS, _model("small"))
        api.put(SLICES, _slice("small-1", "small", "10.0.0.1"))
        api.put(SECRETS, _secret(alice="a"))
        api.put(OWN_SLICES, _slice("gateway-1", "gateway", "10.1.0.1", "10.1.0.2", namespace="system"))
        async with _watching(api, monkeypatch, tmp_path) as learned:
            assert learned.state() == {"team/small": ["http://10.0.0.1:8000"]}
            assert (learned.ring.find("a") is not None, learned.rates.replicas) == (True, 2)
            api.put(SLICES, _slice("small-1", "small", "10.0.0.1", "10.0.0.2"))
            api.put(MODELS, _model("big", "other"))
            api.put(SECRETS, _secret(bob="b"))
            api.remove(OWN_SLICES, "gateway-1")
            await eventually(lambda: len(learned.state()) == 2 and learned.ring.find("b") is not None)
            await eventually(lambda: len(learned.state()["team/small"]) == 2 and learned.rates.replicas == 1)
            assert learned.ring.find("a") is None
            api.remove(MODELS, "big")
            api.remove(SLICES, "small-1")
            api.remove(SECRETS, "keys")
            await eventually(lambda: learned.state() == {"team/small": []} and len(learned.ring) == 0)
            queries = dict(api.queries)
            assert queries[SECRETS]["fieldSelector"] == "metadata.name=keys"
            assert queries[OWN_SLICES]["labelSelector"] == "kubernetes.io/service-name=gateway"


@pytest.mark.parametrize("forget", [False, True])
async def test_a_watch_that_ends_goes_on_and_misses_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, forget: bool
) -> None:
    async with fake_api() as api:
        api.put(MODELS, _model("gone"))
        api.put(SLICES, _slice("gone-1", "gone", "10.0.0.9"))
        async with _watching(api, monkeypatch, tmp_path) as learned:
            await eventually(lambda: len(api._watches) == 4)
            if not forget:
                api.cut()
                await eventually(lambda: len(api.queries) >= 12 and len(api._watches) == 4)
                assert sum("watch" not in query for _, query in api.queries) == 4  # no second list
            else:
                api.forget = True
                watches, api._watches = api._watches, []  # no events: only a new list sees it
                api.put(MODELS, _model("new"))
                api.remove(MODELS, "gone")
                api.remove(SLICES, "gone-1")
                for _, queue in watches:
                    queue.put_nowait(None)
                await eventually(lambda: learned.state() == {"team/new": []} and not learned.catalogue.parts())
            api.put(MODELS, _model("later"))
            await eventually(lambda: "team/later" in learned.state())


async def test_only_the_named_namespaces_are_asked_and_old_clusters_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with fake_api() as api:
        api.versions = ["discovery.k8s.io/v1beta1"]
        for name in ("a", "b"):
            api.put(f"/apis/vicuna.dev/v1alpha1/namespaces/{name}/vicunamodels", _model("m", name))
        path = "/apis/discovery.k8s.io/v1beta1/namespaces/b/endpointslices"
        api.put(path, _slice("m-1", "m", "10.0.0.1", namespace="b"))
        async with _watching(api, monkeypatch, tmp_path, "a", "b") as learned:
            assert learned.state() == {"a/m": [], "b/m": ["http://10.0.0.1:8000"]}
            assert not [path for path, _ in api.queries if path in (MODELS, SLICES)]
            # a new list of one namespace does not change the other namespace
            api.forget = True
            api.put("/apis/vicuna.dev/v1alpha1/namespaces/a/vicunamodels", _model("n", "a"))
            api.cut()
            await eventually(lambda: set(learned.state()) == {"a/m", "a/n", "b/m"})
            assert learned.state()["b/m"] == ["http://10.0.0.1:8000"]


async def test_without_an_api_server_what_is_known_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with fake_api() as api:
        api.put(MODELS, _model("small"))
        watching = _watching(api, monkeypatch, tmp_path)
        learned = await watching.__aenter__()
    try:
        await asyncio.sleep(0.1)
        assert learned.state() == {"team/small": []}
    finally:
        await watching.__aexit__(None, None, None)
