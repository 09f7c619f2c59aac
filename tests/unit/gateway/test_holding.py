"""Which requests wait for a server, in which order they go, and what ends their waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from support.serving import eventually
from vicuna_contract.demand import Demand
from vicuna_server.errors import OverloadedError, RequestError
from vicuna_server.gateway.catalogue import Catalogue, Endpoint, Model
from vicuna_server.gateway.demand import DemandCounts
from vicuna_server.gateway.holding import Holding, Place
from vicuna_server.gateway.metrics import Metrics
from vicuna_server.gateway.settings import HoldBounds

TINY = Model("team", "tiny", "tiny", may_come=True, at_once=2)
ONE, TWO = Endpoint("http://10.0.0.1:8000"), Endpoint("http://10.0.0.2:8000")
BOUNDS = HoldBounds(each=50, all=1000, body_bytes=1000, seconds=60.0, silent_seconds=60.0)


class Door:
    """A catalogue with requests that wait for its model."""

    def __init__(self, model: Model = TINY, **bounds: Any) -> None:
        self.catalogue, self.demand, self.metrics = Catalogue(), DemandCounts(), Metrics()
        self.holding = Holding(self.catalogue, BOUNDS._replace(**bounds), self.demand, self.metrics)
        self.model = model
        self.gone: list[int] = []
        self.catalogue.put(model)

    def place(self, key: str = "alice", size: int = 1) -> Place:
        return self.holding.place(self.model, key, size)

    def endpoints(self, *endpoints: Endpoint) -> None:
        self.catalogue.put_endpoints(self.model.key, "slice", endpoints)

    @property
    def held(self) -> int:
        return self.demand.held(self.model.key)

    @asynccontextmanager
    async def waiting(self, count: int) -> AsyncIterator[list[Place]]:
        """Let requests wait, one after the other; `gone` has the numbers of those that have been let go."""
        places = [self.place() for _ in range(count)]

        async def wait(number: int) -> None:
            await places[number].wait(None)
            self.gone.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(count)]
        await eventually(lambda: self.held == count)
        yield places
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for place in places:
            place.close()
        assert self.held == 0
        assert not self.holding._queues


async def turns() -> None:
    """Let all tasks run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("model", [replace(TINY, may_come=False), TINY])
async def test_who_has_a_server_or_no_chance_of_one_does_not_wait(model: Model) -> None:
    door = Door(model)
    if model.may_come:
        door.endpoints(ONE)
    assert await door.place().wait(None) == model
    assert await Door(TINY, seconds=0).place().wait(None) == TINY
    unknown = Door()
    unknown.catalogue.remove(TINY.key)
    assert await unknown.place().wait(None) == TINY


async def test_they_go_in_order_as_many_as_the_servers_are_to_have() -> None:
    door = Door()
    async with door.waiting(9) as places:
        door.endpoints(ONE)
        await turns()
        assert door.gone == [0, 1]
        door.endpoints(ONE, TWO)
        await turns()
        assert door.gone == [0, 1, 2, 3]
        places[2].close()  # its response has begun
        places[2].close()
        await turns()
        assert door.gone == [0, 1, 2, 3, 4]
        door.endpoints()
        for place in (places[0], places[1], places[3]):
            place.close()
        await turns()
        assert door.gone == [0, 1, 2, 3, 4]
        door.endpoints(ONE)
        await turns()
        assert door.gone == [0, 1, 2, 3, 4, 5]


async def test_who_leaves_is_counted_no_more_and_the_next_goes() -> None:
    door = Door(replace(TINY, at_once=1))
    async with door.waiting(3) as places:
        places[1].close()
        door.endpoints(ONE)
        await turns()
        assert door.gone == [0]
        places[0].close()
        await turns()
        assert door.gone == [0, 2]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (replace(TINY, may_come=False, reason="MergeFailed", message="no space"), "MergeFailed: no space"),
        (replace(TINY, served_name="other"), "was deleted"),
        (None, "was deleted"),
    ],
)
async def test_who_waits_for_what_cannot_come_is_told_why_at_once(state: Model | None, said: str) -> None:
    door = Door()
    place = door.place()
    waiting = asyncio.create_task(place.wait(None))
    await eventually(lambda: door.held == 1)
    if state is None:
        door.catalogue.remove(TINY.key)
    else:
        door.catalogue.put(state)
    with pytest.raises(RequestError, match=said) as caught:
        await waiting
    assert caught.value.status == (404 if "deleted" in said else 503)
    place.close()
    assert not door.holding._queues


async def test_a_change_that_is_none_for_them_leaves_them_waiting_and_the_model_is_that_of_then() -> None:
    door = Door()
    place = door.place()
    waiting = asyncio.create_task(place.wait(None))
    await eventually(lambda: door.held == 1)
    now = replace(TINY, uid="new", reason="Starting")
    door.catalogue.put(now)
    door.catalogue.put(Model("team", "other", "other"))
    await turns()
    assert door.held == 1
    door.endpoints(ONE)
    assert await waiting == now
    place.close()


@pytest.mark.parametrize(("bounds", "bound"), [({"each": 2}, "key"), ({"all": 2}, "all"), ({"body_bytes": 2}, "bytes")])
async def test_above_a_bound_it_is_refused_at_once(bounds: dict[str, Any], bound: str) -> None:
    door = Door(**bounds)
    async with door.waiting(2):
        with pytest.raises(OverloadedError, match="team/tiny has no ready server") as caught:
            await door.place().wait(None)
        assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "too_many_held", 5)
        assert f'vicuna_gateway_hold_refused_total{{bound="{bound}",key="alice",model="team/tiny"}} 1.0' in (
            door.metrics.render().decode()
        )
        place = door.place("bob")
        other = asyncio.create_task(place.wait(None))
        await turns()
        assert other.done() is (bound != "key")  # one key's bound is not another's
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        place.close()
    assert (door.holding._held.total(), door.holding._bytes) == (0, 0)


async def test_whoever_has_waited_long_enough_is_refused_or_goes_before_its_turn() -> None:
    door = Door(replace(TINY, reason="Starting", message="loading"), seconds=0.001)
    place = door.place()
    with pytest.raises(OverloadedError, match="team/tiny is not ready: Starting: loading") as caught:
        await place.wait(None)
    assert (caught.value.code, caught.value.retry_after) == ("model_not_ready", 5)
    place.close()

    door = Door(replace(TINY, at_once=1), seconds=0.2)
    places = [door.place() for _ in range(2)]
    waiting = [asyncio.create_task(place.wait(None)) for place in places]
    await eventually(lambda: door.held == 2)
    door.endpoints(ONE)
    await asyncio.gather(*waiting)  # the first has no response, so it is not the turn of the second
    for place in places:
        place.close()
    assert not door.holding._queues


async def test_who_waits_for_a_stream_hears_of_it_and_waits_as_long_as_streams_last() -> None:
    door = Door(replace(TINY, max_stream_seconds=60), seconds=0.01, silent_seconds=0.001)
    heard = asyncio.Event()
    count = 0

    async def on_silence() -> None:
        nonlocal count
        count += 1
        if count == 20:  # later than a response that is no stream may wait
            heard.set()

    place = door.place()
    waiting = asyncio.create_task(place.wait(on_silence))
    await asyncio.wait_for(heard.wait(), 20)
    door.endpoints(ONE)
    assert (await waiting).key == TINY.key
    place.close()


async def test_there_is_always_demand_while_a_request_waits_or_is_sent() -> None:
    door = Door()
    seen: list[int] = []
    door.demand.on_change = lambda key: seen.append(
        sum(d.under_way + d.held for d in door.demand.stated(lambda _: True))
    )
    place = door.place()

    async def forward() -> tuple[Demand, ...]:
        await place.wait(None)
        with door.demand.under_way(TINY.key):
            return door.demand.stated(lambda _: True)

    task = asyncio.create_task(forward())
    await eventually(lambda: door.held == 1)
    door.endpoints(ONE)
    assert door.demand.stated(lambda _: True) == (Demand(*TINY.key, 0, 1),)  # until it goes on
    assert await task == (Demand(*TINY.key, 1, 0),)
    place.close()
    assert seen == [1, 0, 1, 0]
