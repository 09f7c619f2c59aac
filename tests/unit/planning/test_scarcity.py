"""Rollouts on a cluster that lacks something: each invariant in words, then as a table or a property."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.amount import first
from support.cluster import model_body
from support.world import World
from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time, parse_time
from vicuna_operator.planning.observed import EventView

HOUR = 3600
STILL_SECONDS = 180  # more than surgeWaitSeconds and what the scheduler gets
SELECTOR = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
TAINT = "0/2 nodes are available: 1 node(s) had untolerated taint {gpu: }, 1 Insufficient nvidia.com/gpu."
TYPO = "0/2 nodes are available: 2 Insufficient nvidia.com/gpuu."
CORDONED = "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) were unschedulable."
# what is edited, and what the scheduler says to it
PLACELESS: dict[str, tuple[dict[str, Any], str]] = {
    "a selector that fits no node": ({"nodeSelector": {"pool": "a100-typo"}}, SELECTOR),
    "a pool that joins later": ({"nodeSelector": {"pool": "spot"}, "numGpus": 4}, SELECTOR),
    "a toleration that was taken away": ({"tolerations": []}, TAINT),
    "a resource that does not exist": ({"gpuResource": "nvidia.com/gpuu"}, TYPO),
    "a node that is cordoned": ({"contextLength": 512}, CORDONED),
}


def deployed(*, gpus: int, **serving: Any) -> World:
    world = World(model_body(serving=serving), gpus=max(gpus, 64))
    world.deploy()
    world.gpus = gpus
    while world.gpus_in_use() > gpus:  # the GPU of this pod is broken
        world.remove(next(pod for pod in world.server_pods() if "nodeName" in pod["spec"]))
    turn(world, 5)
    return world


def turn(world: World, rounds: int = 1, seconds: float = 10) -> list[int]:
    """Let operator and cluster move; return how many pods were ready after each step of theirs.

    Ends before all rounds are over once nothing has moved for longer than anything waits but a deadline.
    """
    ready: list[int] = []
    still, before = 0.0, (0, 0)
    for _ in range(rounds):
        world.tick(seconds)
        for step in (world.reconcile, world.run_deployments, world.make_ready):
            step()
            ready.append(len(world.ready_pods()))
            honest(world)
        now = (world.writes, ready[-1])
        still = still + seconds if now == before else 0
        before = now
        if not world.stuck and still > world.stream_seconds + max(STILL_SECONDS, 3 * seconds):
            break
    return ready


def honest(world: World) -> None:
    """Ready is never true without as many ready pods of the present revision as are wanted."""
    if world.condition("Ready").get("status") == "True":
        assert world.status["readyReplicas"] >= world.body["spec"]["serving"].get("replicas", 1)
    assert ("Warning", "RolledBack") not in {(kind, reason) for kind, reason, _ in world.new_events}


def revision_of(pod: dict[str, Any]) -> str:
    revision: str = pod["metadata"]["labels"][c.LABEL_REVISION]
    return revision


def edit(world: World, **serving: Any) -> str:
    """Begin the rollout of another revision; return its name."""
    world.edit(serving=serving or {"contextLength": 1024})
    world.tick(1)
    world.reconcile()
    target: str = world.status["target"]["revision"]
    assert target != world.status["active"]["revision"]
    return target


def all_on(world: World, revision: str, pods: int) -> bool:
    ready = [revision_of(pod) for pod in world.ready_pods()]
    running = {revision_of(pod) for pod in world.server_pods() if "nodeName" in pod["spec"]}
    return ready == [revision] * pods and running == {revision}


# With fewer GPUs than replicas an edit replaces what runs, one at a time, and nothing is rolled back.


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["Auto", "Drain"])
@pytest.mark.parametrize(("replicas", "gpus"), [(2, 1), (3, 1), (3, 2), (4, 3), (5, 4), (6, 2)])
def test_with_fewer_gpus_than_replicas_what_runs_is_replaced(replicas: int, gpus: int, strategy: str) -> None:
    world = deployed(gpus=gpus, replicas=replicas, rollout={"strategy": strategy})
    new = edit(world)
    ready = turn(world, 60)
    assert all_on(world, new, gpus)
    assert min(ready) == gpus - 1
    assert world.condition("Ready")["reason"] == "Unschedulable"
    assert world.status["history"][0]["outcome"] == "Succeeded"
    newer = edit(world, contextLength=512)  # such an edit may be the cure
    turn(world, 60)
    assert all_on(world, newer, gpus)
    assert turn(world, 20, HOUR)[-1] == gpus
    world.gpus = replicas
    world.settle()
    assert world.condition("Ready")["status"] == "True"


def test_strategy_surge_waits_for_room_and_stops_nothing() -> None:
    world = deployed(gpus=2, replicas=3, rollout={"strategy": "Surge"})
    new = edit(world)
    assert min(turn(world, 30, HOUR)) == 2
    world.gpus = 4
    world.settle()
    assert all_on(world, new, 3)


@pytest.mark.long
def test_what_broke_during_a_rollout_does_not_stop_it() -> None:
    world = deployed(gpus=4, replicas=4)
    new = edit(world)
    turn(world, 6)
    world.gpus = 3
    while world.gpus_in_use() > world.gpus:
        world.remove(next(pod for pod in world.server_pods() if "nodeName" in pod["spec"] and revision_of(pod) != new))
    turn(world, 60)
    assert all_on(world, new, 3)


# A pod that serves is stopped only where it holds what the scheduler lacks.


@pytest.mark.parametrize(("change", "says"), PLACELESS.values(), ids=PLACELESS)
@pytest.mark.parametrize("replicas", first([2, 1]))
def test_an_edit_that_finds_no_node_stops_nothing_and_is_waited_for(
    change: dict[str, Any], says: str, replicas: int
) -> None:
    world = deployed(gpus=replicas, replicas=replicas, tolerations=[{"key": "gpu"}], numGpus=1)
    old = world.status["active"]["revision"]
    new = edit(world, **change)
    world.lacks = {new: says}
    assert min(turn(world, 40, 30)) == replicas
    assert min(turn(world, 20, HOUR)) == replicas
    ready = world.condition("Ready")
    assert (ready["reason"], world.status["active"]["revision"]) == ("Unschedulable", old)
    assert says in ready["message"]
    assert world.condition("Stalled")["status"] == "False"
    before = world.writes
    turn(world, 3, HOUR)
    assert world.writes == before
    world.lacks, world.gpus = {}, 64  # the node is there
    world.settle()
    assert all_on(world, new, replicas)


def test_a_pod_evicted_while_the_new_one_waits_is_made_again() -> None:
    world = deployed(gpus=8)
    new = edit(world, nodeSelector={"pool": "typo"})
    world.lacks = {new: SELECTOR}
    turn(world, 10)
    (old,) = world.ready_pods()
    world.remove(old)
    turn(world, 3)
    (again,) = world.ready_pods()
    assert revision_of(again) == revision_of(old)


@pytest.mark.parametrize("strategy", first(["Auto", "Drain", "Recreate"]))
@pytest.mark.parametrize(("replicas", "asked"), [(1, 8), pytest.param(2, 8, marks=pytest.mark.long)])
def test_pods_that_stopped_in_vain_start_again(replicas: int, asked: int, strategy: str) -> None:
    world = deployed(gpus=4, replicas=replicas, rollout={"strategy": strategy})
    edit(world, numGpus=asked)
    turn(world, 40)
    assert turn(world, 40, HOUR)[0] == replicas
    assert [reason for _, reason, _ in world.new_events].count("DrainedInVain") == 1
    assert [reason for _, reason, _ in world.new_events].count("NoRoomToSurge") == (strategy == "Auto")
    assert world.condition("Available")["status"] == "True"
    world.gpus = 8 * (replicas + 1)
    world.settle()
    assert world.condition("Ready")["status"] == "True"


def test_more_gpus_for_each_pod_are_freed_one_pod_after_the_other() -> None:
    world = deployed(gpus=4, replicas=4)
    new = edit(world, numGpus=2)
    turn(world, 100)
    assert all_on(world, new, 2)


# How long it is waited is measured by one clock: the operator's.


@pytest.mark.parametrize("skew", [-HOUR, -60, 60, HOUR])
def test_the_schedulers_clock_does_not_matter(skew: int) -> None:
    world = deployed(gpus=1)
    edit(world)
    world.run_deployments()
    (pod,) = (pod for pod in world.server_pods() if "nodeName" not in pod["spec"])
    pod["status"]["conditions"][0]["lastTransitionTime"] = format_time(world.now + timedelta(seconds=skew))
    world.put(pod)
    world.reconcile()
    assert turn(world, 2)[-1] == 1
    assert "NoRoomToSurge" not in [reason for _, reason, _ in world.new_events]
    turn(world, 2)
    assert "NoRoomToSurge" in [reason for _, reason, _ in world.new_events]


# A revision of which no pod has failed is never rolled back.


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["Auto", "Drain", "Recreate"])
def test_streams_longer_than_the_deadline_are_waited_for(strategy: str) -> None:
    world = deployed(gpus=1, maxStreamSeconds=2 * HOUR, rollout={"strategy": strategy})
    (old,) = world.server_pods()
    world.stream_seconds = 1.5 * HOUR
    new = edit(world)
    turn(world, 10)
    turn(world, 50, 60)
    assert f"pod {old['metadata']['name']} on node n1 ends its streams" in world.condition("Ready")["message"]
    turn(world, 60, 60)
    assert all_on(world, new, 1)


def test_a_gate_is_waited_for_and_named_and_stops_nothing() -> None:
    world = deployed(gpus=2, replicas=2)
    new = edit(world)
    world.gated = {new}
    assert min(turn(world, 10)) == 2
    assert min(turn(world, 20, HOUR)) == 2
    assert world.condition("Ready")["reason"] == "SchedulingGated"
    world.gated, world.gpus = set(), 3
    world.settle()
    assert all_on(world, new, 2)


def test_gated_pods_of_the_old_revision_hold_nothing_up() -> None:
    world = World(model_body(serving={"replicas": 2}), gpus=8)
    world.reconcile()
    world.end_job()
    world.reconcile()
    old = world.status["target"]["revision"]
    world.run_deployments()
    world.remove(world.server_pods()[0])
    world.gated = {old}
    turn(world, 5)
    new = edit(world)
    turn(world, 20)
    assert all_on(world, new, 2)


def test_an_image_on_its_way_is_waited_for_and_named() -> None:
    world = deployed(gpus=8)
    new = edit(world)
    world.silent = {new}
    world.run_deployments()
    (pod,) = (pod for pod in world.server_pods() if revision_of(pod) == new)
    world.events[pod["metadata"]["uid"]] = [EventView("Normal", "Pulling", 'Pulling image "registry.example/server:1"')]
    for _ in range(5):
        world.tick(HOUR)
        world.reconcile()
    assert f"pod {pod['metadata']['name']} on node n1 is pulling its image" in world.condition("Ready")["message"]
    world.events[pod["metadata"]["uid"]].append(EventView("Normal", "Pulled", "Successfully pulled image"))
    pod["status"]["containerStatuses"] = [
        {"name": "server", "state": {"running": {"startedAt": format_time(world.now)}}}
    ]
    world.put(pod)
    world.tick(1790)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "RollingOut"
    world.tick(20)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "RolledBack"


def test_the_deadline_begins_with_the_node() -> None:
    world = deployed(gpus=1)
    new = edit(world)
    world.lacks = {new: SELECTOR}
    turn(world, 10)
    turn(world, 10, HOUR)
    world.lacks, world.silent, world.gpus = {}, {new}, 2
    world.run_deployments()
    placed = world.now
    made = world.reconcile()
    assert made.requeue_after is not None
    world.tick(1790)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "RollingOut"
    world.tick(11)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "RolledBack"
    assert world.status["lastFailure"]["reason"] == "ProgressDeadlineExceeded"
    assert parse_time(world.status["lastFailure"]["time"]) == placed + timedelta(seconds=1800)


# The scheduler comes back late to a pod for which there was no room: until then no other pod makes way.


@pytest.mark.parametrize("strategy", first(["Auto", "Drain"]))
def test_once_a_pod_has_made_way_the_next_waits_for_the_scheduler(strategy: str) -> None:
    world = deployed(gpus=2, replicas=2, rollout={"strategy": strategy, "surgeWaitSeconds": 3})
    new = edit(world)
    ready = turn(world, 1, 4)
    world.gpus = 1  # free, but not yet seen as such
    ready += turn(world, 12, 2)
    assert min(ready) == 1
    world.gpus = 2
    assert min(turn(world, 40, 2)) == 1
    assert all_on(world, new, 2)


# What is stated and taken back in the middle of a rollout ends where it began.


@pytest.mark.long
@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("gpus", [1, 2, 4])
@pytest.mark.parametrize("strategy", ["Auto", "Drain"])
def test_there_and_back_again_ends_where_it_began(replicas: int, gpus: int, strategy: str) -> None:
    for rounds in (0, 1, 3, 5, 8):
        world = deployed(gpus=gpus, replicas=replicas, contextLength=2048, rollout={"strategy": strategy})
        able = min(replicas, gpus)
        old = world.status["active"]["revision"]
        edit(world)
        turn(world, rounds)
        world.edit(serving={"contextLength": 2048})
        turn(world, 20)
        assert all_on(world, old, able), rounds
        assert world.status["target"]["revision"] == old
        marks = world.find("Deployment", f"demo-{old}")["metadata"]["annotations"]
        assert not {c.ANNOTATION_ROLLOUT, c.ANNOTATION_ROLLOUT_STARTED, c.ANNOTATION_ROLLOUT_WAITING} & set(marks)
        before = world.writes
        turn(world, 2, HOUR)
        assert world.writes == before


# A strategy that is stated and taken away again leaves no trace.


def test_a_strategy_that_is_taken_away_is_gone() -> None:
    world = deployed(gpus=3, replicas=2, rollout={"strategy": "Drain"})
    new = edit(world)
    world.edit(serving={"rollout": {"strategy": None}})
    turn(world, 1)
    ready = turn(world, 20)
    assert all_on(world, new, 2)
    assert c.ANNOTATION_ROLLOUT not in world.find("Deployment", f"demo-{new}")["metadata"]["annotations"]
    assert min(ready) >= 1


# A surge pod of a higher priority does not push its own model's pods out.


@pytest.mark.parametrize("gpus", [2, 3])
def test_a_place_is_free_before_a_pod_of_another_priority_asks_for_it(gpus: int) -> None:
    world = deployed(gpus=gpus, replicas=2)
    new = edit(world, priorityClassName="high")
    ready = []
    for _ in range(30):
        ready += turn(world)
        asking = [pod for pod in world.server_pods() if "nodeName" not in pod["spec"] and revision_of(pod) == new]
        assert len(asking) <= world.gpus - world.gpus_in_use()
    assert min(ready) == 1
    assert all_on(world, new, 2)


def test_the_only_pod_is_not_stopped_for_another_priority_where_there_is_room() -> None:
    world = deployed(gpus=2)
    new = edit(world, priorityClassName="high")
    assert min(turn(world, 30)) == 1
    assert all_on(world, new, 1)


@pytest.mark.parametrize(
    ("replicas", "strategy", "priority", "told"),
    [
        (1, "Auto", "high", True),
        (2, "Surge", "high", True),
        (2, "Auto", "high", False),
        (2, "Drain", "high", False),
        (1, "Auto", None, False),
    ],
)
def test_what_another_priority_may_push_out_is_told_as_the_rollout_begins(
    replicas: int, strategy: str, priority: str | None, told: bool
) -> None:
    world = deployed(gpus=5, replicas=replicas)
    rollout = {"strategy": strategy}
    edit(world, rollout=rollout, maxConcurrency=9, **({"priorityClassName": priority} if priority else {}))
    turn(world, 5)
    assert [note[0] for note in world.new_events if note[1] == "MayPreempt"] == ["Warning"] * told


# Whatever happens in between, once there is a place for each pod the last spec serves, and nothing is written any more.

STEPS = st.one_of(
    st.tuples(st.just("context"), st.integers(1, 3)),
    st.tuples(st.just("replicas"), st.integers(1, 4)),
    st.tuples(st.just("gpus"), st.integers(1, 5)),
    st.tuples(st.just("strategy"), st.sampled_from(["Auto", "Surge", "Drain", "Recreate"])),
    st.tuples(st.just("priority"), st.sampled_from([None, "high"])),
    st.tuples(st.just("lacks"), st.sampled_from(["", SELECTOR, TAINT, TYPO, CORDONED])),
    st.tuples(st.just("gate"), st.booleans()),
    st.tuples(st.just("stuck"), st.booleans()),
    st.tuples(st.just("streams"), st.sampled_from([0, 100, 4000])),
    st.tuples(st.just("turns"), st.integers(1, 12)),
    st.tuples(st.just("hours"), st.integers(1, 3)),
)


def target_of(world: World) -> str:
    revision: str = world.status["target"]["revision"]
    return revision


def hold(world: World, value: bool) -> None:
    if value:
        world.stuck = {pod["metadata"]["name"] for pod in world.server_pods()[:1]}


TAKE: dict[str, Callable[[World, Any], object]] = {
    "context": lambda world, value: world.edit(serving={"contextLength": 1024 * value}),
    "replicas": lambda world, value: world.edit(serving={"replicas": value}),
    "strategy": lambda world, value: world.edit(serving={"rollout": {"strategy": value}}),
    "priority": lambda world, value: world.edit(serving={"priorityClassName": value}),
    "gpus": lambda world, value: setattr(world, "gpus", max(value, world.gpus_in_use())),
    "lacks": lambda world, value: setattr(world, "lacks", {target_of(world): value} if value else {}),
    "gate": lambda world, value: setattr(world, "gated", {target_of(world)} if value else set()),
    "streams": lambda world, value: setattr(world, "stream_seconds", value),
    "stuck": hold,
    "turns": turn,
    "hours": lambda world, value: turn(world, value, HOUR),
}


@pytest.mark.long
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=14))
def test_whatever_is_lacking_it_comes_to_rest_on_what_is_asked_for(steps: list[tuple[str, Any]]) -> None:
    world = deployed(gpus=3, replicas=2, maxStreamSeconds=5000)
    for name, value in steps:
        TAKE[name](world, value)
    world.lacks, world.gated, world.gpus = {}, set(), 20
    turn(world, 30, HOUR)
    turn(world, 20)
    assert world.condition("Ready")["status"] == "True"
    assert all_on(world, world.status["target"]["revision"], world.body["spec"]["serving"]["replicas"]) or world.stuck
    before = world.writes
    turn(world, 3, HOUR)
    assert world.writes == before


# With the defaults, pods are stopped one at a time, whatever the numbers: one less than were ready is ready throughout.


@pytest.mark.long
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    replicas=st.integers(1, 6),
    gpus=st.integers(1, 8),
    strategy=st.sampled_from(["Auto", "Surge", "Drain"]),
    streams=st.sampled_from([0, 45, 300]),
    seconds=st.sampled_from([1, 7, 30]),
)
def test_never_two_at_a_time(replicas: int, gpus: int, strategy: str, streams: float, seconds: float) -> None:
    world = deployed(gpus=gpus, replicas=replicas, rollout={"strategy": strategy})
    able = min(replicas, gpus)
    world.stream_seconds = streams
    new = edit(world)
    ready = turn(world, 60, seconds) + turn(world, 60, 60)
    assert min(ready) >= able - 1
    if strategy != "Surge" or gpus > replicas:
        assert all_on(world, new, able)
    if gpus > replicas and strategy != "Drain":
        assert min(ready) == able
