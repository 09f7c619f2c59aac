"""Two operators on one model: the one that `status.managedBy` names works on it, the other says that it does not."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.cluster import model_body
from support.memory_kube import MemoryKube
from support.memory_snapshot import live_snapshot
from support.world import CONFIG
from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time
from vicuna_operator.controller.reconciler import Planning, Reconciler
from vicuna_operator.errors import ForbiddenError
from vicuna_operator.planning.actions import Ref
from vicuna_operator.planning.plan import claims_to_read, plan
from vicuna_operator.planning.stopped_status import refused

KEY = ("team", "demo")
A, B = "ns-a/op", "ns-b/op"


class Place:
    """A cluster with one model, and operators on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.kube = MemoryKube(now=lambda: self.now)
        self.kube.groups.add("coordination.k8s.io/v1")
        self.kube.put(model_body(), "team")

    def operator(self, manager: str) -> Reconciler:
        return Reconciler(
            self.kube,
            live_snapshot(self.kube),
            Planning(plan, claims_to_read, refused),
            CONFIG,
            manager=manager,
            now=lambda: self.now,
            clock=lambda: self.now.timestamp(),
        )

    def lease(self, where: str, renewed: datetime) -> None:
        namespace, _, name = where.partition("/")
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
        self.kube.put({**body, "spec": {"renewTime": format_time(renewed)}}, namespace)

    @property
    def body(self) -> dict[str, Any]:
        found = self.kube.find(c.KIND, "demo", "team")
        assert found is not None
        return found

    @property
    def writes(self) -> int:
        """Count what was written, without Events."""
        return len([call for call in self.kube.writes if call.kind != "Event"])

    def events(self, reason: str) -> list[dict[str, Any]]:
        return [item for item in self.kube.objects("Event", "team") if item["reason"] == reason]


@pytest.fixture
def place() -> Place:
    return Place()


async def test_the_first_that_works_on_a_model_is_named_and_the_other_writes_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.lease(A, place.now)
    first, second = place.operator(A), place.operator(B)
    await first.reconcile(KEY)
    assert place.body["status"]["managedBy"] == A
    before = place.writes
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert await second.reconcile(KEY) == 60
    assert place.writes == before
    assert second.left_alone == 1
    assert first.left_alone == 0
    (event,) = place.events("ManagedElsewhere")
    assert f"kubectl vicuna takeover demo --by {B}" in event["message"]
    assert len([record for record in caplog.records if A in record.getMessage()]) == 1


async def test_a_takeover_moves_it_and_moves_it_back(place: Place) -> None:
    place.lease(A, place.now)
    place.lease(B, place.now)
    first, second = place.operator(A), place.operator(B)
    await first.reconcile(KEY)
    for by, other, name in ((second, first, B), (first, second, A)):
        place.kube.change(c.KIND, "demo", {"metadata": {"annotations": {c.ANNOTATION_MANAGED_BY: name}}}, "team")
        await other.reconcile(KEY)
        await by.reconcile(KEY)
        assert place.body["status"]["managedBy"] == name
        assert (by.left_alone, other.left_alone) == (0, 1)


@pytest.mark.parametrize("age", [None, 11, 9])
async def test_whose_lease_is_gone_or_old_is_taken_over_from(place: Place, age: int | None) -> None:
    if age is not None:
        place.lease(A, place.now - timedelta(minutes=age))
    await place.operator(A).reconcile(KEY)
    await place.operator(B).reconcile(KEY)
    assert place.body["status"]["managedBy"] == (A if age == 9 else B)


async def test_a_lease_is_looked_at_once_a_minute(place: Place) -> None:
    place.lease(A, place.now)
    await place.operator(A).reconcile(KEY)
    second = place.operator(B)
    for _ in range(5):
        await second.reconcile(KEY)
    reads = [call for call in place.kube.calls if call.kind == "Lease"]
    assert len(reads) == 1
    place.now += timedelta(seconds=61)
    await second.reconcile(KEY)
    assert len([call for call in place.kube.calls if call.kind == "Lease"]) == 2


async def test_a_lease_that_may_not_be_read_counts_as_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.operator(A).reconcile(KEY)
    real = place.kube.get

    async def get(ref: Ref, namespace: str) -> Any:
        if ref.kind == "Lease":
            raise ForbiddenError("no", 403)
        return await real(ref, namespace)

    monkeypatch.setattr(place.kube, "get", get)
    await place.operator(B).reconcile(KEY)
    assert place.body["status"]["managedBy"] == A


@pytest.mark.parametrize("word", ["nonsense", "/", "a/"])
async def test_a_word_that_names_no_lease_holds_nobody_up(place: Place, word: str) -> None:
    place.kube.change(c.KIND, "demo", {"status": {"managedBy": word}}, "team")
    await place.operator(B).reconcile(KEY)
    assert place.body["status"]["managedBy"] == B


async def test_beside_an_operator_that_does_not_know_the_field_it_gives_way(place: Place) -> None:
    ours = place.operator(A)
    for _ in range(10):
        await ours.reconcile(KEY)
        place.kube.change(c.KIND, "demo", {"status": {"managedBy": None}}, "team")  # what its status writes come to
    before = place.writes
    for _ in range(10):
        assert await ours.reconcile(KEY) == 600
    assert place.writes == before
    assert len(place.events("ManagedElsewhere")) == 1
    place.now += timedelta(seconds=601)
    await ours.reconcile(KEY)
    await ours.reconcile(KEY)
    assert place.body["status"]["managedBy"] == A
    assert ours.left_alone == 0


async def test_without_a_lease_of_its_own_an_operator_marks_nothing(place: Place) -> None:
    await place.operator("").reconcile(KEY)
    assert "managedBy" not in place.body["status"]


async def test_a_restart_writes_nothing(place: Place) -> None:
    await place.operator(A).reconcile(KEY)
    await place.operator(A).reconcile(KEY)
    before = place.writes
    await place.operator(A).reconcile(KEY)
    assert place.writes == before
