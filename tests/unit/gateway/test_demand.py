"""What a replica states of its demand, and when it writes it."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import jsonschema
import pytest

from support import crd_schema
from support.usage import Clock
from vicuna_contract.demand import Demand, demand_of
from vicuna_server.gateway.catalogue import Catalogue, Model
from vicuna_server.gateway.demand import MOST_ENTRIES, DemandCounts
from vicuna_server.gateway.demand_record import DemandRecord
from vicuna_server.gateway.demand_writer import DemandWriter, demand_writer
from vicuna_server.gateway.options import NamespacedName
from vicuna_server.gateway.usage_api import ConflictError, NoStoreError

Body = dict[str, Any]
SERVICE = NamespacedName("sys", "gw")
TINY = ("team", "tiny")


class Objects:
    """VicunaUsages in memory; `fault` is raised by every request."""

    def __init__(self) -> None:
        self.stored: dict[str, Body] = {}
        self.written: list[tuple[Demand, ...]] = []
        self.fault: Exception | None = None
        self._version = 0

    async def list(self, labels: Mapping[str, str], *, metadata_only: bool = False) -> list[Body]:
        self._fail()
        return [each for each in self.stored.values() if labels.items() <= each["metadata"]["labels"].items()]

    async def write(self, body: Body) -> Body:
        self._fail()
        name = body["metadata"]["name"]
        known = self.stored.get(name, {"metadata": {}})["metadata"].get("resourceVersion")
        if body["metadata"].get("resourceVersion") != known:
            raise ConflictError(name)
        self._version += 1
        self.stored[name] = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        self.written.append(tuple(demand_of(body)))
        return self.stored[name]

    async def delete(self, name: str) -> None:
        self._fail()
        self.stored.pop(name, None)

    async def close(self) -> None:
        pass

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault


class Replica:
    """One replica, whose writer does what is due when it is asked."""

    def __init__(self, objects: Objects, clock: Clock, pod: str = "gw-a") -> None:
        self.counts = DemandCounts()
        self.record = DemandRecord(SERVICE, pod, f"{pod}/1")
        stated = lambda: self.counts.stated(lambda key: key[0] == "team")  # noqa: E731
        self.writer = DemandWriter(self.record, "gw", objects, stated, clock, clock.now)
        self._clock = clock

    async def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and do what is due then."""
        self._clock.turn(seconds)
        if self.writer.due() <= self._clock():
            await self.writer.round()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def objects() -> Objects:
    return Objects()


async def test_it_is_written_on_change_once_a_second_at_most_and_renewed(objects: Objects, clock: Clock) -> None:
    replica = Replica(objects, clock)
    await replica.turn()
    assert not objects.written  # nothing to state, no object
    with ExitStack() as requests:
        requests.enter_context(replica.counts.holding(TINY))
        await replica.turn()
        requests.enter_context(replica.counts.under_way(TINY))
        await replica.turn(0.9)
        assert objects.written == [(Demand(*TINY, 0, 1),)]
        await replica.turn(0.1)
        assert objects.written[1:] == [(Demand(*TINY, 1, 1),)]
        await replica.turn(9.9)
        assert len(objects.written) == 2
        await replica.turn(0.1)
        assert objects.written[2:] == [(Demand(*TINY, 1, 1),)]
    await replica.turn(0.5)
    assert len(objects.written) == 3
    await replica.turn(0.5)  # the last change is written, however soon it came
    assert objects.written[3:] == [()]
    await replica.turn(3600)
    assert len(objects.written) == 4
    await replica.writer.close()
    assert not objects.stored


async def test_the_object_is_as_defined_and_another_for_each_pod(objects: Objects, clock: Clock) -> None:
    for pod in ("gw-a", "gw-b"):
        replica = Replica(objects, clock, pod)
        with replica.counts.under_way(TINY), replica.counts.under_way(("other", "model")):
            await replica.turn()
    assert len(objects.stored) == 2
    for name, body in objects.stored.items():
        assert name.startswith("gw-demand-")
        assert body["metadata"]["labels"].items() >= {"vicuna.dev/gateway": "gw", "vicuna.dev/demand": "true"}.items()
        assert "vicuna.dev/day" not in body["metadata"]["labels"]
        rest = json.loads(json.dumps({k: v for k, v in body.items() if k not in ("apiVersion", "kind", "metadata")}))
        schema = crd_schema.schema("vicunausages")
        assert crd_schema.pruned(rest, schema) == rest
        jsonschema.Draft4Validator(schema).validate(rest)
        assert list(demand_of(body)) == [Demand(*TINY, 1, 0)]


async def test_a_process_puts_right_what_an_earlier_one_of_its_pod_left(objects: Objects, clock: Clock) -> None:
    lost = Replica(objects, clock)
    with lost.counts.under_way(TINY):
        await lost.turn()
    await Replica(objects, clock).turn()
    assert objects.written == [(Demand(*TINY, 1, 0),), ()]
    assert len(objects.stored) == 1


async def test_objects_of_replicas_that_have_long_gone_are_deleted(objects: Objects, clock: Clock) -> None:
    lost, idle = Replica(objects, clock, "lost"), Replica(objects, clock, "idle")
    for replica in (lost, idle):
        with replica.counts.under_way(TINY):
            await replica.turn()
    await idle.turn(1)
    await Replica(objects, clock, "c").turn(24 * 3600 - 2)
    assert len(objects.stored) == 2
    await Replica(objects, clock, "c").turn(3)
    assert not objects.stored
    with idle.counts.under_way(TINY):  # it was idle for a day: it makes its object again
        await idle.turn()
    assert list(objects.stored) == [idle.record.name]


@pytest.mark.parametrize("fault", [NoStoreError("404"), OSError("no route")])
async def test_a_failure_is_logged_once_and_tried_again_after_pauses(
    objects: Objects, clock: Clock, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    replica = Replica(objects, clock)
    objects.fault = fault
    with replica.counts.holding(TINY):
        for _ in range(5):
            await replica.turn()
            assert replica.writer.due() > clock()
            clock.turn(60)
        assert len(caplog.records) == 1
        objects.fault = None
        await replica.turn(60)
    assert objects.written == [(Demand(*TINY, 0, 1),)]


async def test_a_write_whose_response_is_lost_is_not_written_twice(objects: Objects, clock: Clock) -> None:
    replica = Replica(objects, clock)
    write = objects.write

    async def lose(body: Body) -> Body:
        await write(body)
        raise TimeoutError

    with replica.counts.holding(TINY):
        await replica.turn()
        with replica.counts.holding(TINY):
            objects.write = lose  # type: ignore[method-assign]
            await replica.turn(1)
            objects.write = write  # type: ignore[method-assign]
            await replica.turn(2)
            assert objects.written == [(Demand(*TINY, 0, 1),), (Demand(*TINY, 0, 2),)]


def test_where_there_are_too_many_models_those_with_held_requests_are_stated() -> None:
    counts = DemandCounts()
    with ExitStack() as requests:
        for number in range(MOST_ENTRIES + 10):
            requests.enter_context(counts.under_way(("team", f"{number:05}")))
        requests.enter_context(counts.holding(("team", f"{MOST_ENTRIES + 9:05}")))
        stated = counts.stated(lambda _: True)
        assert len(stated) == MOST_ENTRIES
        assert stated[-1] == Demand("team", f"{MOST_ENTRIES + 9:05}", 1, 1)
        assert list(stated) == sorted(stated)
    assert not counts.stated(lambda _: True)


async def test_only_models_that_are_scaled_by_it_are_stated(monkeypatch: pytest.MonkeyPatch, objects: Objects) -> None:
    monkeypatch.setattr("vicuna_server.gateway.demand_writer.UsageApi", lambda _: objects)
    catalogue, counts, wrote = Catalogue(), DemandCounts(), asyncio.Event()
    write = objects.write

    async def note(body: Body) -> Body:
        wrote.set()
        return await write(body)

    objects.write = note  # type: ignore[method-assign]
    writer = demand_writer(SERVICE, catalogue, counts)
    running = asyncio.create_task(writer.run())
    catalogue.put(Model(*TINY, "tiny"))
    with counts.under_way(TINY), counts.under_way(("team", "unknown")):
        await writer.round()
        assert not objects.stored
        catalogue.put(Model(*TINY, "tiny", autoscaled=True))
        await asyncio.wait_for(wrote.wait(), 20)
    running.cancel()
    assert objects.written == [(Demand(*TINY, 1, 0),)]
