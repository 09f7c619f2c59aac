"""Pods that do not go, have gone wrong long ago, or have not been let in: they neither block nor speak for others."""

from typing import Any

import pytest

from support.amount import first
from support.cluster import Cluster, model_body
from support.world import World
from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time

MINUTE = 60


def turn(world: World, rounds: int = 1, seconds: float = 1) -> None:
    for _ in range(rounds):
        world.tick(seconds)
        world.reconcile()
        world.run_deployments()
        world.make_ready()


def hold(world: Cluster, pod: dict[str, Any]) -> str:
    """Let a pod be told to end that never does."""
    name: str = pod["metadata"]["name"]
    world.stuck.add(name)
    world.set_ready(pod, False)
    world.kube.start_deletion("Pod", name, "team")
    return name


def count(world: World, revision: str) -> int:
    return sum(pod["metadata"]["labels"][c.LABEL_REVISION] == revision for pod in world.server_pods())


@pytest.mark.parametrize("strategy", first(["Auto", "Surge", "Drain", "Recreate"], 2))
@pytest.mark.parametrize("replicas", first([2, 1]))
def test_a_pod_past_its_grace_period_blocks_no_rollout(strategy: str, replicas: int) -> None:
    world = World(
        model_body(serving={"replicas": replicas, "maxStreamSeconds": 600, "rollout": {"strategy": strategy}})
    )
    world.deploy()
    stuck = hold(world, world.server_pods()[0])
    turn(world, 3)
    world.edit(serving={"contextLength": 1024})
    turn(world, 10)
    world.tick(630 + MINUTE)
    turn(world, 15)
    assert world.find("Pod", stuck)
    ready = world.condition("Ready")
    assert ready["status"] == "True"
    assert all(word in ready["message"] for word in (stuck, "node n1", "--force", "finalizer"))
    assert count(world, world.status["target"]["revision"]) == replicas
    before = world.writes
    turn(world, 5, 3600)
    assert world.writes == before


def test_within_its_grace_period_it_is_waited_for_and_named() -> None:
    world = World(model_body(serving={"rollout": {"strategy": "Recreate"}}))
    world.deploy()
    world.stream_seconds = 500
    (old,) = world.server_pods()
    world.edit(serving={"contextLength": 1024})
    turn(world, 3)
    told = world.condition("Ready")
    until = world.find("Pod", old["metadata"]["name"])["metadata"]["deletionTimestamp"]
    assert told["reason"] == "RollingOut"
    assert f"pod {old['metadata']['name']} on node n1 ends its streams, until {until} at the latest" in told["message"]
    assert world.reconcile().requeue_after == pytest.approx(630 + MINUTE, abs=5)
    world.tick(500)
    turn(world, 3)
    assert world.condition("Ready")["status"] == "True"


@pytest.mark.parametrize("strategy", ["Surge", "Recreate"])
def test_a_pod_that_is_told_to_end_before_it_began_is_not_waited_for(strategy: str) -> None:
    world = World(model_body(serving={"replicas": 2, "rollout": {"strategy": strategy}}))
    world.deploy()
    world.edit(serving={"contextLength": 1024})
    while not (unborn := [pod for pod in world.server_pods() if not pod["status"].get("containerStatuses")]):
        world.tick(1)
        world.reconcile()
        world.run_deployments()
    world.stuck |= {pod["metadata"]["name"] for pod in unborn}
    world.edit(serving={"contextLength": 512})
    turn(world, 15)
    ready = world.condition("Ready")
    target = world.status["target"]["revision"]
    assert (ready["status"], world.status["active"]["revision"]) == ("True", target)
    assert all(world.find("Pod", name)["metadata"]["deletionTimestamp"] for name in world.stuck)
    assert not any(name in ready["message"] for name in world.stuck)
    assert count(world, target) == 2


def leftover(world: World, reason: str) -> None:
    pod = world.server_pods()[0]
    pod["metadata"] = {**pod["metadata"], "name": "demo-of-last-week", "uid": "uid-of-last-week"}
    pod["metadata"]["creationTimestamp"] = format_time(world.now)
    del pod["metadata"]["ownerReferences"]
    pod["status"] = {"phase": "Failed", "reason": reason, "message": "low on ephemeral-storage", "conditions": []}
    world.put(pod)
    world.tick(7 * 86400)


def test_an_evicted_pod_of_last_week_does_not_speak_for_today() -> None:
    world = World()
    world.deploy()
    leftover(world, "Evicted")
    world.edit(serving={"replicas": 2})
    world.silent = {world.status["active"]["revision"]}
    world.reconcile()
    world.run_deployments()
    world.tick(5)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "PartlyAvailable"
    assert "lastFailure" not in world.status


def test_leftovers_block_no_rollout() -> None:
    world = World(model_body(serving={"rollout": {"strategy": "Recreate"}}), gpus=1)
    world.deploy()
    leftover(world, "Evicted")
    world.edit(serving={"contextLength": 1024})
    world.settle()
    assert world.condition("Ready")["status"] == "True"


def test_a_gated_pod_is_told_as_such() -> None:
    world = World()
    world.reconcile()
    world.end_job()
    world.reconcile()
    world.gated = {world.status["target"]["revision"]}
    turn(world, 2)
    ready = world.condition("Ready")
    assert ready["reason"] == "SchedulingGated"
    assert "Kueue" in ready["message"]
    assert world.status["phase"] == "Pending"
    world.gated = set()
    world.settle()
    assert world.condition("Ready")["status"] == "True"
