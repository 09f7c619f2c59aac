"""The demand of gateways: summed up by model, by the operator's own clock; only those that need it are woken."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.memory_kube import MemoryKube
from vicuna_contract.demand import Demand, entries_of
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.controller.claims import Claims
from vicuna_operator.controller.demands import DemandObject, Demands
from vicuna_operator.controller.following import follow
from vicuna_operator.controller.model_state import ModelState
from vicuna_operator.controller.observer import Observer
from vicuna_operator.controller.snapshot import Snapshot
from vicuna_operator.errors import ForbiddenError
from vicuna_operator.kube.watch import Page
from vicuna_operator.planning.demand import DemandView

KEY = ("team", "m")


def model(name: str = "m", **autoscaling: int) -> Model:
    scaling = {"minReplicas": 0, "maxReplicas": 4, **autoscaling}
    spec = {
        "weights": {"base": {"source": "hf://org/base"}},
        "storage": {"size": "1Gi"},
        "serving": {"autoscaling": scaling, "maxStreamSeconds": 120},
    }
    return parse_model({"metadata": {"name": name, "namespace": "team", "uid": name}, "spec": spec})


def stated(gateway: str, version: str, *counts: int, name: str = "m") -> Page[DemandObject]:
    """What one replica states: requests under way, and held."""
    demand = [Demand("team", name, *counts)] if counts else []
    metadata = {"namespace": "gateways", "name": gateway, "resourceVersion": version}
    return Page(version, [DemandObject.of({"metadata": metadata, "demand": entries_of(demand)})])


class Watch:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.woken: list[tuple[str, str]] = []
        self.demands = Demands(self.woken.append, lambda: self.now)
        self.demands.set_reached(True)

    def tell(self, gateway: str, version: str, *counts: int) -> None:
        self.demands.apply_page(stated(gateway, version, *counts))

    async def view(self) -> DemandView:
        found = await self.demands.view(model())
        assert found is not None
        return found

    async def total(self) -> int:
        return (await self.view()).total

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


async def test_all_gateways_count_until_they_say_otherwise_or_end() -> None:
    watch = Watch()
    watch.tell("a", "1", 3, 2)
    watch.tell("b", "2", 0, 1)
    assert await watch.total() == 6
    watch.tell("a", "3", 1, 0)
    assert await watch.total() == 2
    watch.tell("a", "4")
    watch.demands.apply_page(Page("5", gone=[("gateways", "b")]))
    view = await watch.view()
    assert (view.total, view.replicas) == (0, ())


async def test_only_more_than_the_replicas_are_enough_for_wakes_the_model() -> None:
    watch = Watch()
    await watch.view()
    watch.demands.set_enough(KEY, 8)
    for version, requests in enumerate((1, 8, 3, 7, 0, 8)):
        watch.tell("a", str(version), requests, 0)
    assert not watch.woken
    watch.tell("b", "20", 0, 1)
    assert watch.woken == [KEY]
    watch.demands.set_enough(KEY, None)
    watch.tell("b", "21", 90, 0)
    assert watch.woken == [KEY]
    watch.demands.set_enough(KEY, 97)
    assert watch.woken == [KEY, KEY], "it had come while the pass was made"


async def test_a_model_that_never_asked_is_neither_woken_nor_kept() -> None:
    watch = Watch()
    watch.tell("a", "1", 5, 5)
    plain = model()
    assert plain.spec is not None
    serving = plain.spec.serving.model_copy(update={"autoscaling": None})
    other = Model("m", "team", "m", 1, plain.spec.model_copy(update={"serving": serving}))
    assert await watch.demands.view(other) is None
    watch.tell("a", "2", 50, 5)
    assert not watch.woken
    assert watch.demands.totals() == {}
    await watch.view()
    assert watch.demands.totals() == {KEY: 55}
    watch.demands.forget(KEY)
    assert watch.demands.totals() == {}


async def test_peaks_are_kept_with_their_ends() -> None:
    watch = Watch()
    await watch.view()
    for version, requests in enumerate((5, 9, 2, 3, 0)):
        watch.tell("a", str(version), requests, 0)
        watch.tick(10)
    view = await watch.view()
    started = watch.now - timedelta(seconds=50)
    assert [(peak.total, (peak.until - started).total_seconds()) for peak in view.peaks] == [(9, 20), (3, 40)]
    assert (view.idle_since - started).total_seconds() == 40


async def test_a_lost_replica_counts_as_long_as_its_requests_may_run_and_its_return_counts_again() -> None:
    watch = Watch()
    watch.tell("a", "1", 3, 0)
    watch.tick(100)
    watch.tell("b", "2", 1, 0)
    view = await watch.view()
    assert view.look_again == watch.now + timedelta(seconds=20)
    watch.tick(19.9)
    assert await watch.total() == 4
    watch.tick(0.2)
    view = await watch.view()
    assert view.total == 1
    assert [peak.total for peak in view.peaks] == [4]
    watch.tell("a", "3", 2, 0)
    assert await watch.total() == 3


async def test_a_list_that_shows_an_object_again_does_not_renew_it() -> None:
    watch = Watch()
    watch.tell("a", "1", 3, 0)
    watch.tick(119)
    watch.tell("a", "1", 3, 0)
    watch.tick(2)
    assert await watch.total() == 0


async def test_a_broken_watch_ends_all_windows_at_once_and_after_half_a_minute_is_told() -> None:
    watch = Watch()
    await watch.view()
    watch.tell("a", "1", 3, 0)
    watch.tick(50)
    watch.demands.set_reached(False)
    view = await watch.view()
    assert (view.total, view.since, view.look_again) == (3, watch.now, watch.now + timedelta(seconds=30))
    watch.tick(31)
    assert await watch.demands.view(model()) is None
    assert not watch.woken
    watch.demands.set_reached(True)
    assert watch.woken == [KEY]
    view = await watch.view()
    assert (view.total, view.since, view.peaks) == (3, watch.now, ())


async def test_windows_of_a_model_begin_when_it_first_asks() -> None:
    watch = Watch()
    watch.tick(1000)
    assert (await watch.view()).since == watch.now


async def test_what_cannot_be_read_at_all_is_known_once_it_was_tried() -> None:
    demands = Demands(lambda _: None)
    asking = asyncio.create_task(demands.view(model()))
    await asyncio.sleep(0)
    assert not asking.done()

    class Forbidden:
        async def pages(self, _: str | None) -> AsyncIterator[Page[DemandObject]]:
            raise ForbiddenError("no", 403)
            yield

        def changes(self, *_: Any) -> AsyncIterator[Page[DemandObject]]:
            raise AssertionError

    watching = asyncio.create_task(
        follow(Forbidden(), demands, ["gateways"], what="demand", on_reached=demands.set_reached)
    )
    async with asyncio.timeout(10):
        assert await asking is None
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize(
    "broken", [None, "x", [3], [{"namespace": 1}], [{"namespace": "team", "name": "m", "held": -3}]]
)
def test_what_others_wrote_is_left_out(broken: object) -> None:
    assert DemandObject.of({"metadata": {"name": "a", "namespace": "g"}, "demand": broken}).entries == {}


async def test_autoscalers_of_a_model_are_found_where_they_may_be_read() -> None:
    kube = MemoryKube()
    kube.put(hpa("mine", "VicunaModel", "m", "vicuna.dev/v1alpha1"), "team")
    kube.put(hpa("older", "VicunaModel", "m", "vicuna.dev/v1"), "team")
    kube.put(hpa("others", "VicunaModel", "n", "vicuna.dev/v1alpha1"), "team")
    kube.put(hpa("of-a-deployment", "Deployment", "m", "apps/v1"), "team")
    found = await observer(kube).observe(model(), ModelState("m"))
    assert found.autoscalers == ("HorizontalPodAutoscaler mine", "HorizontalPodAutoscaler older")
    kube.fail(ForbiddenError("no", 403), verb="list", kind="HorizontalPodAutoscaler")
    assert (await observer(kube).observe(model(), ModelState("m"))).autoscalers == ()


def hpa(name: str, kind: str, target: str, api_version: str) -> dict[str, Any]:
    reference = {"apiVersion": api_version, "kind": kind, "name": target}
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": reference},
    }


def observer(kube: MemoryKube) -> Observer:
    demands = Demands(lambda _: None)
    demands.set_reached(True)
    claims = Claims(kube, lambda _: ())
    return Observer(kube, Snapshot(), claims, demands, merge_progress=False, policies=False)
