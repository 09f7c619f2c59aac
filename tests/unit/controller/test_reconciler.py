import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from support.memory_kube import Call, MemoryKube
from support.memory_snapshot import live_snapshot
from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.controller.reconciler import Planning, Reconciler
from vicuna_operator.controller.snapshot import Snapshot
from vicuna_operator.errors import ForbiddenError, InvalidError, UnavailableError
from vicuna_operator.planning.actions import Action, Apply, Create, Delete, NewEvent, Patch, Plan, Ref
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.observed import Observed

KEY = ("default", "m")
CONFIG = PlanConfig(server_image="registry.example/server:1")
Rule = Callable[[Model, Observed], Plan]


def model_body() -> dict[str, Any]:
    return {
        "apiVersion": c.API_VERSION,
        "kind": c.KIND,
        "metadata": {"name": "m"},
        "spec": {"weights": {"base": {"source": "pvc://weights/base"}}, "storage": {"size": "1Gi"}},
        "status": {"observedGeneration": -1},
    }


def job_body(model: Model, name: str = "m-merge") -> dict[str, Any]:
    owner = {
        "apiVersion": c.API_VERSION,
        "kind": c.KIND,
        "name": model.name,
        "uid": model.uid,
        "controller": True,
    }
    labels = {c.LABEL_MODEL: model.name, c.LABEL_MANAGED_BY: c.MANAGED_BY}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
        "spec": {},
    }


class World:
    """A MemoryKube, a plan under the test's control, and a reconciler between them."""

    def __init__(self, rule: Rule, claims: Sequence[str] = ()) -> None:
        self.kube = MemoryKube()
        self.kube.put(model_body())
        self.snapshot: Snapshot = live_snapshot(self.kube)
        self.rule = rule
        self.seen: list[Observed] = []
        self.models: list[Model] = []
        self.clock = 0.0
        self.claims = claims
        self.reconciler = self.restart()

    def restart(self) -> Reconciler:
        self.reconciler = Reconciler(
            self.kube,
            self.snapshot,
            Planning(plan=self._plan, claims_to_read=lambda _: self.claims, refused=_refused),
            CONFIG,
            clock=lambda: self.clock,
        )
        return self.reconciler

    def conflicts(self) -> Sequence[str]:
        """What the last pass saw of them."""
        return self.seen[-1].conflicts

    def _plan(self, model: Model, seen: Observed, config: PlanConfig, now: datetime) -> Plan:
        assert config is CONFIG
        assert now.tzinfo is UTC
        self.models.append(model)
        self.seen.append(seen)
        return self.rule(model, seen)

    async def run(self) -> float | None:
        return await self.reconciler.reconcile(KEY)

    async def writes(self) -> list[Call]:
        """Make one more pass and return what it wrote."""
        before = len(self.kube.writes)
        await self.run()
        return self.kube.writes[before:]

    @property
    def status(self) -> Mapping[str, Any]:
        found = self.kube.find(c.KIND, "m")
        assert found is not None
        return found.get("status") or {}


def _refused(model: Model, action: str, message: str, now: datetime) -> dict[str, Any]:
    return {"observedGeneration": model.generation, "reason": "ApiRefused", "message": f"{action}: {message}"}


def once(body: Callable[[Model], dict[str, Any]], **plan: Any) -> Rule:
    """Create the Job where none is seen."""

    def rule(model: Model, seen: Observed) -> Plan:
        status = {"observedGeneration": model.generation}
        return Plan(actions=[] if seen.jobs else [Create(body(model))], status=status, **plan)

    return rule


async def test_creates_writes_status_and_then_makes_no_write_at_all() -> None:
    world = World(once(job_body, new_events=[NewEvent("Normal", "Merging", "hello")]))
    assert await world.run() is None
    assert [(call.verb, call.kind) for call in world.kube.writes] == [
        ("create", "Job"),
        ("create", "Event"),
        ("patch", c.KIND),
    ]
    assert world.status == {"observedGeneration": 1}
    assert await world.writes() == []
    event = world.kube.objects("Event")[0]
    assert event["involvedObject"]["uid"] == world.models[0].uid
    assert event["source"] == {"component": "vicuna-operator"}
    assert event["reportingComponent"] == "vicuna-operator"


async def test_a_restarted_operator_repeats_no_write_but_the_event() -> None:
    world = World(once(job_body))
    await world.run()
    world.restart()
    assert await world.writes() == []


async def test_the_same_event_comes_again_only_after_ten_minutes() -> None:
    world = World(lambda *_: Plan(new_events=[NewEvent("Warning", "Bad", "why")]))
    await world.run()
    world.clock += 599
    await world.run()
    assert len(world.kube.objects("Event")) == 1
    world.clock += 2
    await world.run()
    assert len(world.kube.objects("Event")) == 2


async def test_a_refused_event_does_not_fail_the_pass() -> None:
    world = World(once(job_body, new_events=[NewEvent("Normal", "Merging", "hello")]))
    world.kube.fail(ForbiddenError("no events"), kind="Event")
    await world.run()
    assert world.status == {"observedGeneration": 1}


async def test_status_keys_that_vanish_are_removed_and_nulls_mean_absent() -> None:
    statuses: list[dict[str, Any]] = [
        {"observedGeneration": 1, "merge": {"percent": 1}},
        {"observedGeneration": 1, "merge": None},
    ]
    world = World(lambda *_: Plan(status=statuses[0]))
    await world.run()
    assert world.status == statuses[0]
    statuses.pop(0)
    await world.run()
    assert world.status == {"observedGeneration": 1}
    assert await world.writes() == []


async def test_a_status_field_the_crd_drops_is_not_written_for_ever() -> None:
    world = World(lambda *_: Plan(status={"observedGeneration": 1, "unknown": "x"}))
    prune = world.kube.patch

    async def pruning(ref: Ref, namespace: str, body: Any, *, subresource: str | None = None) -> Any:
        body = {**body, "status": {k: v for k, v in body["status"].items() if k != "unknown"}}
        return await prune(ref, namespace, body, subresource=subresource)

    world.kube.patch = pruning  # type: ignore[method-assign]
    await world.run()
    assert await world.writes() == []


async def test_its_own_status_write_counts_before_the_watch_shows_it() -> None:
    world = World(lambda model, _: Plan(status={"observedGeneration": model.generation}))
    world.snapshot.models.freeze()  # type: ignore[attr-defined]
    await world.run()
    assert await world.writes() == []
    assert world.models[-1].status == {"observedGeneration": 1}


async def test_a_status_is_never_written_over_a_newer_generation() -> None:
    world = World(lambda model, _: Plan(status={"observedGeneration": model.generation}))
    world.snapshot.models.freeze()  # type: ignore[attr-defined]
    body = world.kube.find(c.KIND, "m")
    assert body is not None
    world.kube.put({**body, "spec": {**body["spec"], "suspend": True}})
    again = await world.run()
    assert world.status == {"observedGeneration": -1}
    assert again is not None
    assert again < 1
    world.snapshot.models.thaw()  # type: ignore[attr-defined]
    await world.run()
    assert world.status == {"observedGeneration": 2}


async def test_a_spec_change_seen_during_the_pass_voids_its_status() -> None:
    world = World(lambda model, _: Plan(status={"observedGeneration": model.generation}))

    def change_meanwhile(model: Model, _: Observed) -> Plan:
        body = world.kube.find(c.KIND, "m")
        assert body is not None
        world.kube.put({**body, "spec": {**body["spec"], "suspend": True}})
        return Plan(status={"observedGeneration": model.generation})

    world.rule = change_meanwhile
    assert await world.writes() == []
    assert world.status == {"observedGeneration": -1}


async def test_a_name_held_by_a_foreign_object_is_a_conflict_until_it_is_gone() -> None:
    world = World(once(job_body))
    create = world.rule

    def rule(model: Model, seen: Observed) -> Plan:
        return Plan(status={"reason": "NameConflict"}) if seen.conflicts else create(model, seen)

    world.rule = rule
    world.kube.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "m-merge"}, "spec": {}})
    again = await world.run()
    assert again is not None
    assert again <= 10
    assert world.conflicts() == ("m-merge",)
    assert world.status == {"reason": "NameConflict"}
    assert await world.writes() == []
    world.kube.remove("Job", "m-merge")
    await world.run()
    assert world.conflicts() == ()
    assert world.status == {"observedGeneration": 1}
    assert world.kube.find("Job", "m-merge") is not None


async def test_a_name_conflict_holds_up_nothing_else_even_if_the_plan_asks_for_it_again() -> None:
    def rule(model: Model, seen: Observed) -> Plan:
        wanted = [Create(job_body(model, name)) for name in ("first", "taken", "last")]
        return Plan(actions=wanted, status={"reason": "NameConflict" if seen.conflicts else "Fine"})

    world = World(rule)
    world.kube.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "taken"}, "spec": {}})
    await world.run()
    assert world.status == {"reason": "NameConflict"}
    assert world.kube.find("Job", "last") is not None
    world.kube.remove("Job", "taken")
    await world.run()
    assert world.status == {"reason": "Fine"}


async def test_a_name_held_by_our_own_object_is_fine() -> None:
    world = World(once(job_body))
    world.snapshot.jobs.freeze()  # type: ignore[attr-defined]  # the watch is late
    await world.run()
    await world.run()
    assert world.conflicts() == ()
    assert world.status == {"observedGeneration": 1}


async def test_a_kept_claim_is_taken_up_again_by_its_labels() -> None:
    labels = {c.LABEL_MODEL: "m", c.LABEL_MANAGED_BY: c.MANAGED_BY}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "m-weights", "labels": labels},
        "spec": {},
    }
    world = World(lambda *_: Plan(actions=[Create(claim)]))
    world.kube.put(claim)
    await world.run()
    assert world.conflicts() == ()
    world.kube.remove("PersistentVolumeClaim", "m-weights")
    world.kube.put({**claim, "metadata": {"name": "m-weights"}})
    world.rule = lambda _, seen: Plan(actions=[] if seen.conflicts else [Create(claim)])
    await world.run()
    assert world.conflicts() == ("m-weights",)


async def test_what_the_former_model_of_that_name_left_is_waited_for() -> None:
    world = World(once(job_body))
    former = Model(name="m", namespace="default", uid="former", generation=1, spec=None)
    world.kube.put(job_body(former))
    world.snapshot.jobs.freeze()  # type: ignore[attr-defined]
    world.rule = lambda model, _: Plan(actions=[Create(job_body(model))])
    first, second = await world.run(), await world.run()
    assert first is not None
    assert second is not None
    assert first < second
    assert world.conflicts() == ()
    world.kube.remove("Job", "m-merge")
    assert await world.run() is None


@pytest.mark.parametrize("error", [InvalidError("bad quantity"), ForbiddenError("exceeded quota")])
async def test_what_the_api_refuses_shows_on_the_object_and_is_tried_again_later(error: Exception) -> None:
    world = World(once(job_body))
    world.kube.fail(error, verb="create", kind="Job", times=2)
    with pytest.raises(type(error)):
        await world.run()
    assert world.status["reason"] == "ApiRefused"
    assert world.status["message"] == f"create Job m-merge: {error}"
    before = len(world.kube.writes)
    with pytest.raises(type(error)):
        await world.run()
    assert [call.verb for call in world.kube.writes[before:]] == ["create"]  # the status says it already
    await world.run()
    assert world.status == {"observedGeneration": 1}


async def test_an_api_that_fails_changes_nothing() -> None:
    world = World(once(job_body))
    world.kube.fail(UnavailableError("down"), verb="create")
    with pytest.raises(UnavailableError):
        await world.run()
    assert world.status == {"observedGeneration": -1}


@pytest.mark.parametrize("verb", ["patch", "delete", "apply"])
async def test_objects_that_changed_or_went_meanwhile_mean_planning_again(verb: str) -> None:
    ref = Ref("batch/v1", "Job", "m-merge")

    def rule(model: Model, seen: Observed) -> Plan:
        if not seen.jobs:
            return Plan()
        old = seen.jobs[0].meta.uid
        stale = job_body(model)
        stale["metadata"]["uid"] = old
        action: dict[str, Action] = {
            "patch": Patch(ref, old, {"spec": {}}),
            "delete": Delete(ref, old),
            "apply": Apply(stale),
        }
        return Plan(actions=[action[verb]], status={"done": True})

    world = World(once(job_body))
    await world.run()
    world.snapshot.jobs.freeze()  # type: ignore[attr-defined]
    job = world.kube.find("Job", "m-merge")
    assert job is not None
    world.kube.remove("Job", "m-merge")
    world.kube.put({**job, "spec": {"theirs": True}})  # another object of that name
    world.rule = rule
    again = await world.run()
    assert again is not None
    assert again < 1
    after = world.kube.find("Job", "m-merge")
    assert after is not None
    assert after["spec"] == {"theirs": True}
    assert "done" not in world.status


async def test_a_child_whose_deletion_the_watch_missed_is_found_out() -> None:
    world = World(once(job_body))
    await world.run()
    world.snapshot.jobs.freeze()  # type: ignore[attr-defined]
    world.kube.remove("Job", "m-merge")
    await world.run()
    assert world.kube.find("Job", "m-merge") is None  # the index still shows it
    world.clock += 300
    await world.run()
    assert world.kube.find("Job", "m-merge") is not None


async def test_a_model_whose_deletion_the_watch_missed_ends_its_loop() -> None:
    world = World(once(job_body))
    await world.run()
    world.snapshot.models.freeze()  # type: ignore[attr-defined]
    world.kube.remove(c.KIND, "m")
    world.clock += 300
    assert await world.run() is None
    assert not world.reconciler.exists(KEY)
    world.reconciler.forget(KEY)
    assert not world.reconciler.exists(KEY)  # still that ghost
    world.snapshot.models.thaw()  # type: ignore[attr-defined]
    world.kube.put(model_body())
    assert world.reconciler.exists(KEY)


async def test_a_model_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    world = World(once(job_body))
    body = world.kube.find(c.KIND, "m")
    assert body is not None
    world.kube.put({**body, "metadata": {**body["metadata"], "finalizers": ["foregroundDeletion"]}})
    await world.kube.delete(Ref(c.API_VERSION, c.KIND, "m"), "default")
    assert await world.writes() == []


async def test_a_model_made_anew_under_its_name_starts_with_a_clean_memory() -> None:
    world = World(lambda *_: Plan(ask_events=["uid-x"], read_progress="pod"))
    await world.run()
    world.kube.remove(c.KIND, "m")
    world.kube.put(model_body())
    world.rule = lambda *_: Plan(status={"observedGeneration": 1})
    await world.run()
    assert world.seen[-1].events == {}
    assert world.status == {"observedGeneration": 1}


async def test_a_managed_object_that_is_neither_wanted_nor_there_is_read_once() -> None:
    world = World(once(job_body))

    def reads() -> int:
        return sum(call.verb == "get" and call.kind == "NetworkPolicy" for call in world.kube.calls)

    await world.run()
    assert reads() == 0, "a new model's merge was held up"
    for _ in range(3):
        await world.run()
    assert reads() == 1
    world.kube.put(
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "m"}, "spec": {}}
    )
    world.restart()
    for _ in range(2):
        await world.run()
        assert world.seen[-1].policy is not None
    world.kube.remove("NetworkPolicy", "m")
    for _ in range(2):
        await world.run()
        assert world.seen[-1].policy is None
    assert reads() == 4


async def test_claims_are_looked_up_by_name() -> None:
    world = World(lambda *_: Plan(), claims=["weights", "absent"])
    world.kube.put(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "weights"},
            "spec": {},
            "status": {"phase": "Bound"},
        }
    )
    await world.run()
    claims = world.seen[-1].claims
    assert claims["weights"] is not None
    assert claims["weights"].phase == "Bound"
    assert claims["absent"] is None


class SlowKube(MemoryKube):
    """Lets others run during a read."""

    async def get(self, ref: Ref, namespace: str) -> dict[str, Any] | None:
        found = await super().get(ref, namespace)
        await asyncio.sleep(0.001)
        return found


def crowd(rule: Rule, names: Sequence[str], claims: Sequence[str] = ()) -> World:
    """Make a world of several models, of an API server that takes its time."""
    world = World(rule, claims)
    world.kube = SlowKube()
    for name in names:
        world.kube.put({**model_body(), "metadata": {"name": name}})
    world.snapshot = live_snapshot(world.kube)
    world.reconciler = world.restart()
    return world


def claim_reads(world: World) -> int:
    return sum(call.verb == "get" and call.kind == "PersistentVolumeClaim" for call in world.kube.calls)


async def test_models_that_look_at_one_claim_within_half_a_second_share_the_answer() -> None:
    world = crowd(lambda *_: Plan(), ["a", "b", "c"], claims=["weights"])
    world.kube.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "weights"}, "spec": {}})
    passes = [asyncio.create_task(world.reconciler.reconcile(("default", name))) for name in ("a", "b", "c")]
    await asyncio.sleep(0)  # all have begun
    passes[0].cancel()
    await asyncio.gather(*passes, return_exceptions=True)
    assert [seen.claims["weights"] is not None for seen in world.seen] == [True, True]
    assert claim_reads(world) == 1
    world.clock += 0.4
    await world.reconciler.reconcile(("default", "a"))
    assert claim_reads(world) == 1
    world.kube.remove("PersistentVolumeClaim", "weights")
    world.clock += 0.1
    await world.reconciler.reconcile(("default", "a"))
    assert claim_reads(world) == 2
    assert world.seen[-1].claims == {"weights": None}


async def test_the_models_own_claim_is_read_in_every_pass() -> None:
    world = World(lambda *_: Plan(), claims=["m-weights"])
    for passes in (1, 2):
        await world.run()
        assert claim_reads(world) == passes


async def test_an_unanswered_read_of_a_shared_claim_fails_each_pass_and_the_next_asks_again() -> None:
    world = crowd(lambda *_: Plan(), ["a", "b"], claims=["weights"])
    world.kube.fail(UnavailableError("away"), verb="get", kind="PersistentVolumeClaim")
    passes = (world.reconciler.reconcile(("default", name)) for name in ("a", "b"))
    results = await asyncio.gather(*passes, return_exceptions=True)
    assert all(isinstance(item, UnavailableError) for item in results)
    await world.reconciler.reconcile(("default", "a"))
    assert world.seen[-1].claims == {"weights": None}


async def test_events_asked_for_are_there_in_the_next_pass_which_comes_soon() -> None:
    world = World(lambda *_: Plan(ask_events=["pod-uid"]))
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": {"uid": "pod-uid"},
        "type": "Warning",
        "reason": "FailedMount",
        "message": "no such Secret",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }
    world.kube.put(event)
    assert await world.run() == pytest.approx(0.2)
    assert world.seen[-1].events == {}
    assert await world.run() is None
    assert [item.reason for item in world.seen[-1].events["pod-uid"]] == ["FailedMount"]
    reads = sum(call.verb == "list" for call in world.kube.calls)
    await world.run()
    assert sum(call.verb == "list" for call in world.kube.calls) == reads  # not read again within two seconds


async def test_merge_progress_is_read_from_the_log_at_most_every_five_seconds() -> None:
    world = World(lambda *_: Plan(read_progress="merge-pod"))
    world.kube.pod_logs["default", "merge-pod", "merge"] = (
        'loading\n{"event":"progress","bytesDone":1}\n{"event":"progress","bytesDone":2}\n{"event":"prog'
    )
    assert await world.run() == pytest.approx(0.2)
    assert await world.run() == pytest.approx(5.0)
    assert world.seen[-1].progress == {"event": "progress", "bytesDone": 2}
    world.kube.pod_logs["default", "merge-pod", "merge"] = '{"event":"progress","bytesDone":3}'
    await world.run()
    assert world.seen[-1].progress == {"event": "progress", "bytesDone": 2}
    world.clock += 5
    await world.run()
    assert world.seen[-1].progress == {"event": "progress", "bytesDone": 3}


async def test_progress_that_cannot_be_read_is_simply_absent() -> None:
    world = World(lambda *_: Plan(read_progress="no-such-pod", status={"observedGeneration": 1}))
    await world.run()
    await world.run()
    assert world.seen[-1].progress is None
    assert world.status == {"observedGeneration": 1}


@pytest.mark.parametrize("allowed", [True, False])
async def test_what_vllm_printed_before_it_ended_is_seen_where_logs_may_be_read(allowed: bool) -> None:
    world = World(lambda *_: Plan())
    seen: list[Observed] = []

    def plan(_: Model, found: Observed, *__: object) -> Plan:
        seen.append(found)
        return Plan()

    planning = Planning(plan=plan, claims_to_read=lambda _: (), refused=_refused)
    config = dataclasses.replace(CONFIG, merge_progress=allowed)
    world.reconciler = Reconciler(world.kube, world.snapshot, planning, config)
    world.kube.pod_logs["default", "m-1", c.ENGINE_CONTAINER] = "the cause"
    labels = {c.LABEL_MODEL: "m", c.LABEL_NAME: c.NAME_SERVER, c.LABEL_MANAGED_BY: c.MANAGED_BY}
    ended = {"name": c.ENGINE_CONTAINER, "state": {"terminated": {"exitCode": 0}}}
    world.kube.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "m-1", "labels": labels},
            "status": {"containerStatuses": [ended]},
        }
    )
    await world.run()
    (pod,) = seen[-1].pods
    assert pod.terminated is not None
    assert pod.terminated.message == ("the cause" if allowed else "")


async def test_no_log_is_read_when_the_chart_says_so() -> None:
    world = World(lambda *_: Plan(read_progress="merge-pod"))
    world.reconciler = Reconciler(
        world.kube,
        world.snapshot,
        Planning(plan=lambda *_: Plan(read_progress="merge-pod"), claims_to_read=lambda _: (), refused=_refused),
        dataclasses.replace(CONFIG, merge_progress=False),
    )
    assert await world.run() is None
    await world.run()
    assert not any(call.verb == "logs" for call in world.kube.calls)


def two_jobs(model: Model, seen: Observed) -> Plan:
    """Create what is not seen, and tell which labels somebody has rewritten."""
    names = {job.meta.name for job in seen.jobs}
    wanted = [Create(job_body(model, name)) for name in ("a", "b") if name not in names]
    return Plan(actions=wanted, status={"reason": "; ".join(seen.relabelled) or "Fine"})


async def test_a_label_that_somebody_took_away_is_put_back_so_that_the_child_is_seen() -> None:
    world = World(two_jobs)
    await world.run()
    world.kube.change("Job", "a", {"metadata": {"labels": {c.LABEL_MODEL: None}}})
    await world.run()
    await world.run()
    assert {job.meta.name for job in world.seen[-1].jobs} == {"a", "b"}
    assert world.status == {"reason": "Fine"}


async def test_a_policy_that_takes_our_label_is_told_by_name_and_stops_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(two_jobs)
    stamp = world.kube._stamp
    update = world.kube._update

    def without(body: dict[str, Any]) -> dict[str, Any]:
        if body["metadata"]["name"] == "a":
            body["metadata"]["labels"] = {c.LABEL_MODEL: "theirs"}
        return body

    monkeypatch.setattr(world.kube, "_stamp", lambda body, namespace: stamp(without(body), namespace))
    monkeypatch.setattr(world.kube, "_update", lambda place, old, new: update(place, old, without(new)))
    await world.run()
    await world.run()
    assert {item["metadata"]["name"] for item in world.kube.objects("Job")} == {"a", "b"}
    assert world.status == {"reason": "Job a: label vicuna.dev/model is 'theirs'"}
    version = world.kube.version
    await world.run()
    assert world.kube.version == version, "nothing changes any more"
