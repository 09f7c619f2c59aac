"""`kubectl vicuna restart`: new pods of the same spec, by a rollout like any other."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.cluster import model_body
from support.scaled_world import Scaled
from support.world import World
from support.world_kubectl import WorldKubectl
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.plugin import commands
from vicuna_operator.plugin.cli import main

Capture = pytest.CaptureFixture[str]
NEWER = PlanConfig(server_image="registry.example/server:2")


def served(*, gpus: int = 100, **serving: Any) -> World:
    world = World(model_body(serving=serving), gpus=gpus)
    world.deploy()
    return world


def restart(world: World, minute: int = 0) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    assert commands.restart(WorldKubectl(world), "demo", now=lambda: moment) == 0


def pods(world: World) -> set[str]:
    return {pod["metadata"]["uid"] for pod in world.ready_pods()}


@pytest.mark.parametrize("replicas", [1, 3])
def test_all_pods_are_replaced_and_never_fewer_are_ready(replicas: int, capsys: Capture) -> None:
    world = served(replicas=replicas)
    before = pods(world)
    restart(world)
    assert "kubectl vicuna wait demo" in capsys.readouterr().out
    for _ in range(40):
        world.tick(1)
        world.reconcile()
        world.run_deployments()
        world.make_ready()
        assert len(world.ready_pods()) >= replicas
    world.settle()
    assert len(pods(world)) == replicas
    assert not pods(world) & before
    assert world.condition("Ready")["status"] == "True"
    assert len(world.all("Job")) == 1, "nothing is merged"


def test_the_only_pod_is_not_stopped_for_a_restart_while_there_is_no_room_for_another() -> None:
    world = served(gpus=1, numGpus=1)
    before = pods(world)
    restart(world)
    for _ in range(60):
        world.tick(5)
        world.reconcile()
        world.run_deployments()
        world.make_ready()
        assert pods(world) == before
    assert world.condition("Ready")["reason"] == "Unschedulable"
    assert world.reconcile().actions == []
    world.gpus = 2
    world.settle()
    assert world.condition("Ready")["status"] == "True"
    assert not pods(world) & before
    world.gpus = 1
    world.edit(serving={"rollout": {"strategy": "Drain"}})
    restart(world, minute=1)
    world.settle()
    assert world.condition("Ready")["status"] == "True"


def test_of_several_pods_on_a_full_node_one_goes_at_a_time() -> None:
    world = served(gpus=3, numGpus=1, replicas=3)
    before = pods(world)
    restart(world)
    for _ in range(100):
        world.tick(2)
        world.reconcile()
        world.run_deployments()
        world.make_ready()
        assert len(world.ready_pods()) >= 2
    assert not pods(world) & before
    assert world.condition("Ready")["status"] == "True"


def test_an_edit_of_a_restarted_model_is_not_a_restart() -> None:
    world = served(gpus=1, numGpus=1)
    world.gpus = 2
    restart(world)
    world.settle()
    world.gpus = 1
    world.edit(serving={"maxConcurrency": 7})
    for _ in range(60):
        world.tick(2)
        world.reconcile()
        world.run_deployments()
        world.make_ready()
    assert world.condition("Ready")["status"] == "True", "it is drained, as any other edit"


def test_each_restart_is_another_and_taking_it_away_brings_the_first_pods_spec_back() -> None:
    world = served()
    first = world.status["active"]["revision"]
    restart(world)
    world.settle()
    second = world.status["active"]["revision"]
    restart(world, minute=1)
    world.settle()
    assert len({first, second, world.status["active"]["revision"]}) == 3
    world.edit(serving={"podAnnotations": {"vicuna.dev/restarted-at": None}})
    world.settle()
    assert world.status["active"]["revision"] == first


def test_a_restart_is_not_an_upgrade() -> None:
    world = served()
    old = world.status["active"]["image"]
    world.config = NEWER
    world.reconcile()
    assert world.status["imageOutdated"] is True
    restart(world)
    world.settle()
    assert (world.status["active"]["image"], world.status["imageOutdated"]) == (old, True)


def test_a_restart_takes_no_upgrade_back_and_an_upgrade_comes_through_after_restarts() -> None:
    world = served()
    restart(world)
    world.settle()
    world.config = NEWER
    world.reconcile()
    assert main(["upgrade", "demo"], connect=lambda _: WorldKubectl(world)) == 0
    world.settle()
    assert world.status["active"]["image"] == NEWER.server_image
    restart(world, minute=1)
    world.settle()
    assert world.status["active"]["image"] == NEWER.server_image


def test_a_restart_that_fails_is_rolled_back() -> None:
    world = served()
    good = world.status["active"]["revision"]
    restart(world)
    world.reconcile()
    world.crashing[world.status["target"]["revision"]] = {"exitCode": 65, "message": "no"}
    world.settle()
    assert world.condition("Ready")["reason"] == "RolledBack"
    assert world.status["active"]["revision"] == good
    assert len(world.ready_pods()) == 1


def test_rollback_does_not_take_a_restart_for_another_spec(capsys: Capture) -> None:
    world = served()
    first = world.status["active"]["revision"]
    world.edit(serving={"maxConcurrency": 7})
    world.settle()
    restart(world)
    world.settle()
    assert main(["rollback", "demo"], connect=lambda _: WorldKubectl(world)) == 0
    world.settle()
    assert world.status["active"]["revision"] == first


@pytest.mark.parametrize("spec", [{"suspend": True}, {"serving": {"replicas": 0}}])
def test_where_there_are_no_pods_nothing_is_written(spec: dict[str, Any], capsys: Capture) -> None:
    kubectl = WorldKubectl(World(model_body(**spec)))
    assert commands.restart(kubectl, "demo") == 0
    assert not kubectl.written
    assert "has no pods" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("serving", "warned"),
    [
        ({"rollout": {"strategy": "Recreate"}, "replicas": 3}, True),
        ({"rollout": {"strategy": "Drain"}}, True),
        ({"rollout": {"strategy": "Drain"}, "replicas": 2}, False),
        ({}, False),
    ],
)
def test_what_it_costs_is_told(serving: dict[str, Any], warned: bool, capsys: Capture) -> None:
    kubectl = WorldKubectl(World(model_body(serving=serving)))
    assert commands.restart(kubectl, "demo") == 0
    assert ("stops every pod" in capsys.readouterr().err) is warned
    ((*_, patch, manager),) = kubectl.written
    assert manager == "--field-manager=kubectl-vicuna"
    (annotations,) = json.loads(patch.removeprefix("--patch="))["spec"]["serving"].values()
    assert list(annotations) == ["vicuna.dev/restarted-at"]


def test_a_model_that_is_asleep_tries_its_new_pods_and_waiting_for_it_ends(capsys: Capture) -> None:
    world = Scaled().asleep()
    world.edit(serving={"rollout": {"strategy": "Drain"}})
    world.settle()
    assert commands.wait(WorldKubectl(world), "demo", timeout=0) == 0
    assert "demo is asleep: no pods while nobody asks" in capsys.readouterr().out
    restart(world)
    assert "stops every pod" in capsys.readouterr().err
    world.settle()
    assert len(world.ready_pods()) == 1
