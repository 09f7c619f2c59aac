"""A deletion that somebody's finalizer holds up is told, of the model and of its children."""

from typing import Any

import pytest

from support.memory_snapshot import live_snapshot
from support.world import CONFIG, World
from vicuna_operator.api.finalizers import foreign_finalizers
from vicuna_operator.controller.reconciler import Planning, Reconciler
from vicuna_operator.planning.plan import claims_to_read, plan
from vicuna_operator.planning.stopped_status import refused

OURS_TO_TELL = ["example.com/backup"]


def deployed() -> World:
    world = World()
    world.deploy()
    return world


def delete(world: World, body: dict[str, Any], finalizers: list[str]) -> None:
    body["metadata"]["finalizers"] = finalizers
    world.put(body)
    world.kube.start_deletion(body["kind"], body["metadata"]["name"], body["metadata"]["namespace"])


def told(world: World) -> list[str]:
    return [text for kind, reason, text in world.new_events if (kind, reason) == ("Warning", "DeletionHeld")]


def test_a_model_that_is_held_says_so_once_and_goes_on_serving() -> None:
    world = deployed()
    before = world.status
    delete(world, world.body, OURS_TO_TELL)
    for _ in range(3):
        world.reconcile()
    drifted = world.condition("Drifted")
    assert (drifted["status"], drifted["reason"]) == ("True", "DeletionHeld")
    assert "example.com/backup" in drifted["message"]
    assert "no edit is followed" in drifted["message"]
    assert "metadata.finalizers" in world.status["action"]
    assert len(told(world)) == 1
    assert len(world.ready_pods()) == 1
    kept = {key: value for key, value in world.status.items() if key not in ("action", "conditions")}
    assert kept == {key: value for key, value in before.items() if key not in ("action", "conditions")}
    assert world.condition("Ready")["status"] == "True"
    writes = world.writes
    world.tick(600)
    world.reconcile()
    assert world.writes == writes


@pytest.mark.parametrize("finalizers", [[], ["foregroundDeletion"], ["orphan"]])
def test_what_kubernetes_waits_for_itself_is_not_news(finalizers: list[str]) -> None:
    world = deployed()
    delete(world, world.body, [*finalizers, *([] if finalizers else ["foregroundDeletion"])])
    made = world.reconcile()
    assert (made.status, made.actions, told(world)) == (None, (), [])


@pytest.mark.parametrize("kind", ["Deployment", "Service", "Job"])
async def test_a_child_that_is_held_is_named_until_it_is_gone(kind: str) -> None:
    world = deployed()
    body = world.only(kind)
    delete(world, body, OURS_TO_TELL)
    operator = Reconciler(
        world.kube, live_snapshot(world.kube), Planning(plan, claims_to_read, refused), CONFIG, now=lambda: world.now
    )
    key = ("team", "demo")
    for _ in range(4):
        await operator.reconcile(key)
    assert world.condition("Drifted")["reason"] == "DeletionHeld"
    assert f"{kind} {body['metadata']['name']} is deleted" in world.condition("Drifted")["message"]
    writes = len(world.kube.writes)
    for _ in range(2):
        await operator.reconcile(key)
    assert len(world.kube.writes) == writes
    world.kube.finish_deletion()
    for _ in range(4):
        await operator.reconcile(key)
    assert "Drifted" not in {item["type"] for item in world.status["conditions"]}
    assert all("deletionTimestamp" not in item["metadata"] for item in world.all(kind))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, ()),
        ("text", ()),
        ([1, None, "a.example/x"], ("a.example/x",)),
        (["kubernetes.io/pvc-protection", "service.kubernetes.io/load-balancer-cleanup", "orphan"], ()),
        (["notkubernetes.io/x", "plain"], ("notkubernetes.io/x", "plain")),
        (["a.example/x\x07"], ("a.example/x",)),
    ],
)
def test_whose_a_finalizer_is(value: object, found: tuple[str, ...]) -> None:
    assert foreign_finalizers(value) == found


def test_a_model_that_nobody_has_looked_at_yet_is_told_too() -> None:
    world = World()
    delete(world, world.body, OURS_TO_TELL)
    world.reconcile()
    assert world.condition("Drifted")["reason"] == "DeletionHeld"
