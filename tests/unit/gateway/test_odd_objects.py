"""Any content of the keys' Secret, of a model or of a slice is read or skipped, and ends nothing."""

import asyncio
import base64
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from support.amount import examples
from support.mutating import flipped, mutated
from vicuna_server.gateway.abilities import NOTHING
from vicuna_server.gateway.catalogue import Catalogue, Endpoint
from vicuna_server.gateway.cluster import _Endpoints, _Keys, _Models, _Replicas
from vicuna_server.gateway.document import model_object
from vicuna_server.gateway.keys import KeyRing
from vicuna_server.gateway.objects import endpoints_of, model_of, of_pods, secret_entries, service_of
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.reflector import Cache, Reflector

ROUNDS = examples(8000)
MANAGED = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
KEY = {
    "sha256": "a" * 64,
    "models": ["team-a/*"],
    "requestsPerMinute": 60,
    "expires": "2027-01-31T00:00:00Z",
    "defaultNamespace": "team-a",
}
MODEL = {
    "metadata": {"namespace": "n", "name": "m", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"serving": {"servedName": "x", "maxStreamSeconds": 5}},
    "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "R", "message": "m"}]},
}
SLICE = {
    "metadata": {"namespace": "n", "name": "s", "labels": {"kubernetes.io/service-name": "m", **MANAGED}},
    "ports": [{"name": "http", "port": 1}],
    "endpoints": [
        {
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "namespace": "n", "name": "m-1"},
        }
    ],
}
FOUND: tuple[Any, ...] = (
    *(None, [], "x", 1, {}, {"metadata": None}, {"metadata": []}, {"metadata": {"namespace": 1, "name": {}}}),
    {"metadata": {"namespace": "n", "name": "m"}, "spec": [], "status": {"conditions": ["x"]}},
    {"metadata": {"namespace": "n", "name": "m"}, "status": {"conditions": "Ready"}},
    {"metadata": {"namespace": "n", "name": "m"}, "spec": {"serving": {"maxStreamSeconds": 10**400}}},
    {"metadata": {"namespace": "n", "name": "m"}, "spec": {"serving": {"maxStreamSeconds": [1], "servedName": {}}}},
    {"metadata": {"namespace": "n", "name": "m", "creationTimestamp": "0001-01-01T00:00:00+23:59"}},
    {"metadata": {"namespace": "n", "name": "m", "labels": ["kubernetes.io/service-name"]}},
    {**SLICE, "ports": {"name": "http"}},
    {**SLICE, "ports": [{"name": "http", "port": "80"}, None]},
    {**SLICE, "endpoints": {"addresses": ["10.0.0.1"]}},
    {**SLICE, "endpoints": [None, {"addresses": "10.0.0.1"}, {"addresses": [1]}, {"addresses": [None]}]},
    {**SLICE, "endpoints": [{"addresses": ["\ud800"], "conditions": [1], "targetRef": []}]},
)


def use_model(body: Any) -> None:
    model = model_of(body)
    if model is not None:
        json.dumps(model_object(model, NOTHING, "ready"), ensure_ascii=False).encode()
        assert model.max_stream_seconds + 30 < float("inf")


def use_slice(body: Any) -> None:
    namespace, service = service_of(body)
    assert isinstance(namespace, str)
    assert isinstance(service, str)
    assert set(of_pods(body)) <= set(endpoints_of(body))


def use_keys(content: bytes) -> None:
    ring = KeyRing.parse({"k": content, "good": json.dumps({"sha256": "b" * 64}).encode()})
    assert "b" * 64 in ring._by_hash
    for key in ring._by_hash.values():
        assert key.may_use("team-a/m") or key.models != ("*",)
        key.expired(datetime.now(UTC))
        Rates().take(key.name, key.requests_per_minute)
        assert "" not in key.namespaces


def use_secret(body: Any) -> None:
    use_keys(json.dumps(list(map(str, secret_entries(body)))).encode(errors="replace"))


@pytest.mark.parametrize("use", [use_model, use_slice, use_secret])
@pytest.mark.parametrize("body", FOUND)
def test_what_was_found(use: Callable[[Any], None], body: Any) -> None:
    use(body)


@pytest.mark.parametrize(
    ("use", "seed"), [(use_model, MODEL), (use_slice, SLICE), (use_secret, {"data": {"a": "eA==", "b": "%"}})]
)
def test_objects_changed_at_random(use: Callable[[Any], None], seed: Any) -> None:
    moves = random.Random(20261129)
    for _ in range(ROUNDS):
        body = seed
        for _ in range(moves.choice((1, 1, 1, 2, 4))):
            body = mutated(moves, body)
        use(body)


@pytest.mark.long
def test_keys_changed_at_random() -> None:
    moves = random.Random(20261129)
    for _ in range(ROUNDS):
        entry: Any = KEY
        for _ in range(moves.choice((1, 1, 2, 4))):
            entry = mutated(moves, entry)
        use_keys(json.dumps(entry).encode())
        use_keys(flipped(moves, json.dumps(KEY).encode()))


class _Content:
    def __init__(self, lines: list[bytes], over: asyncio.Event) -> None:
        self._lines, self._over = lines, over

    async def readline(self) -> bytes:
        if self._lines:
            return self._lines.pop(0)
        self._over.set()
        await asyncio.Event().wait()
        raise AssertionError


class _Answer:
    def __init__(self, items: Any, content: _Content) -> None:
        self._items, self.content = items, content

    async def __aenter__(self) -> "_Answer":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def json(self) -> Any:
        return {"metadata": {"resourceVersion": "1"}, "items": self._items}


class _Api:
    """Lists these objects, then sends these events, and nothing more."""

    def __init__(self, items: Any, lines: list[bytes]) -> None:
        self.asked: list[dict[str, str]] = []
        self.over = asyncio.Event()
        self._items, self._lines = items, lines

    async def get(self, _path: str, query: dict[str, str], _limits: object) -> Any:
        self.asked.append(query)
        return _Answer(self._items, _Content(self._lines, self.over))


async def _seen(cache: Cache, items: Any, *events: Any) -> None:
    """Run a reflector on these; it must list once and watch once."""
    api = _Api(items, [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events])
    reflector = Reflector(api, "/x", cache, {})  # type: ignore[arg-type]
    running = asyncio.create_task(reflector.run())
    waiting = asyncio.create_task(api.over.wait())
    try:
        await asyncio.wait({running, waiting}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert not running.done(), "whatever is listed, the watch goes on"
        assert reflector.synced.is_set()
        assert ["watch" in query for query in api.asked] == [False, True]
    finally:
        running.cancel()
        waiting.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)


def _added(item: Any) -> dict[str, Any]:
    return {"type": "ADDED", "object": item}


NOISE = (b"[" * 5000, b"{", b"", b"[]", b"null", b'"x"', b'{"type": "ADDED"}', b'{"type": [], "object": {}}')


def _events(*items: Any) -> list[Any]:
    return [*map(_added, items), *({"type": "DELETED", "object": item} for item in FOUND), *filter(None, NOISE)]


async def test_odd_models_cost_no_other_model() -> None:
    catalogue = Catalogue()
    last = {"metadata": {"namespace": "n", "name": "last"}}
    await _seen(_Models(catalogue, ""), [*FOUND, {**MODEL, "metadata": {"namespace": "n", "name": "first"}}],
                *_events(*FOUND), _added(last))  # fmt: skip
    assert {("n", "first"), ("n", "last")} <= catalogue.known()


async def test_odd_slices_cost_no_other_slice() -> None:
    catalogue = Catalogue()
    later = json.loads(json.dumps(SLICE).replace("10.0.0.1", "10.0.0.2").replace('"s"', '"t"'))
    await _seen(_Endpoints(catalogue, ""), [*FOUND, SLICE], *_events(*FOUND), _added(SLICE), _added(later))
    endpoints = catalogue.endpoints(model_of(MODEL))  # type: ignore[arg-type]
    assert set(endpoints) == {Endpoint("http://10.0.0.1:1"), Endpoint("http://10.0.0.2:1")}


async def test_a_slice_that_changes_its_service_takes_its_endpoints_along() -> None:
    catalogue = Catalogue()
    moved = json.loads(json.dumps(SLICE).replace('name": "m', 'name": "q'))
    moved["metadata"]["labels"]["kubernetes.io/service-name"] = "q"
    taken = {**SLICE, "metadata": {**SLICE["metadata"], "labels": {"kubernetes.io/service-name": "m"}}}  # type: ignore[dict-item]
    cache = _Endpoints(catalogue, "")
    await _seen(cache, [SLICE], {"type": "MODIFIED", "object": moved})
    assert catalogue.parts() == {(("n", "q"), "s")}
    cache.changed(SLICE)
    assert catalogue.parts() == {(("n", "m"), "s")}
    cache.changed(taken)
    assert catalogue.parts() == set(), "nobody's slice any more"


async def test_odd_slices_of_its_own_count_as_no_replica() -> None:
    rates = Rates()
    await _seen(_Replicas(rates), [*FOUND, SLICE], *_events(*FOUND), _added(SLICE))
    assert rates.replicas == 1


@pytest.mark.parametrize("content", [b"[" * 5000, b'{"a":' * 5000, b"x", b"", b"\xff", json.dumps([[]]).encode()])
async def test_a_broken_entry_of_the_secret_costs_no_other_its_key(content: bytes) -> None:
    rings: list[KeyRing] = []
    data = {"alice": base64.b64encode(json.dumps(KEY).encode()).decode(), "bob": base64.b64encode(content).decode()}
    await _seen(_Keys(rings.append), [{"data": data}], *NOISE[:2], _added({"data": data}))
    assert [(len(ring), list(ring.broken)) for ring in rings] == [(1, ["bob"])] * 2


@pytest.mark.parametrize("body", FOUND)
async def test_a_secret_of_another_shape_lets_nobody_in(body: Any) -> None:
    rings: list[KeyRing] = []
    await _seen(_Keys(rings.append), [body], _added(body))
    assert {len(ring) for ring in rings} == {0}
