"""A revision that fails goes away again, the last good one is back, and the object says why."""

import json
from datetime import timedelta
from typing import Any

import pytest

from support.cluster import model_body
from support.world import World
from vicuna_operator.api.conditions import parse_time

EXIT_70 = {"exitCode": 70, "message": json.dumps({"reason": "DeviceUnavailable", "message": "no GPU is visible"})}
DEADLINE = 600


def serving(*, gpus: int = 100, **fields: object) -> World:
    rollout = {"progressDeadlineSeconds": DEADLINE, "strategy": fields.pop("strategy", "Auto")}
    world = World(model_body(serving={"replicas": 2, "rollout": rollout, **fields}), gpus=gpus)
    world.deploy()
    return world


def turn(world: World, rounds: int = 1) -> None:
    for _ in range(rounds):
        world.tick(1)
        world.reconcile()
        world.run_deployments()
        world.make_ready()


def edit(world: World, concurrency: int = 8) -> tuple[str, str]:
    """Change the spec; return the old and the new revision."""
    old = world.status["active"]["revision"]
    world.edit(serving={"maxConcurrency": concurrency})
    world.reconcile()
    return old, world.status["target"]["revision"]


def pods(world: World) -> dict[str, int]:
    found: dict[str, int] = {}
    for pod in world.server_pods():
        revision = pod["metadata"]["labels"]["vicuna.dev/revision"]
        found[revision] = found.get(revision, 0) + 1
    return found


def settled(world: World) -> None:
    """See that nothing is written any more, however long one waits."""
    world.settle()
    before = world.writes
    for _ in range(3):
        world.tick(3600)
        world.reconcile()
    assert world.writes == before


def rolled_back(world: World) -> dict[str, Any]:
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RolledBack")
    assert world.condition("Stalled")["status"] == "True"
    assert world.condition("Available")["status"] == "True"
    return ready


def test_a_server_that_cannot_start_is_rolled_back_at_once_with_its_words_on_the_object() -> None:
    world = serving()
    old, new = edit(world)
    world.crashing = {new: EXIT_70}
    turn(world, 4)
    assert pods(world) == {old: 2}
    ready = rolled_back(world)
    assert all(word in ready["message"] for word in (old, new, "DeviceUnavailable", "no GPU is visible", "retry"))
    failure = world.status["lastFailure"]
    assert (failure["reason"], failure["exitCode"]) == ("DeviceUnavailable", 70)
    assert failure["pod"].startswith(f"demo-{new}")
    assert world.status["active"]["revision"] == old
    assert ("Warning", "RolledBack") in {(kind, reason) for kind, reason, _ in world.new_events}
    last = world.status["history"][0]
    assert (last["revision"], last["outcome"], last["reason"]) == (new, "RolledBack", "DeviceUnavailable")
    settled(world)
    assert pods(world) == {old: 2}


@pytest.mark.parametrize(
    ("exit_code", "within"),
    [(64, 3), (1, 8), *(pytest.param(*row, marks=pytest.mark.long) for row in ((65, 3), (70, 3), (137, 8)))],
)
def test_crashes_are_told_from_accidents_by_exit_code_or_by_number(exit_code: int, within: int) -> None:
    world = serving()
    old, new = edit(world)
    world.crashing = {new: {"exitCode": exit_code, "message": "boom"}}
    turn(world, within)
    rolled_back(world)
    assert world.status["lastFailure"]["exitCode"] == exit_code
    assert "boom" in world.status["lastFailure"]["message"]
    turn(world, 2)
    assert pods(world) == {old: 2}


def test_one_crash_without_a_verdict_is_not_a_failure() -> None:
    world = serving()
    _, new = edit(world)
    world.crashing = {new: {"exitCode": 1, "message": "boom"}}
    turn(world, 2)
    world.crashing = {}
    world.settle()
    assert world.status["active"]["revision"] == new
    assert world.condition("Ready")["status"] == "True"


def test_a_revision_that_never_gets_ready_is_rolled_back_at_its_deadline() -> None:
    world = serving()
    old, new = edit(world)
    world.silent = {new}
    since = parse_time(world.status["target"]["since"])
    assert since == world.now
    turn(world, 3)
    world.tick(DEADLINE - 10)
    made = world.reconcile()
    assert world.condition("Ready")["reason"] == "RollingOut"
    assert made.requeue_after is not None
    assert made.requeue_after <= (since + timedelta(seconds=DEADLINE) - world.now).total_seconds()
    world.tick(made.requeue_after)
    turn(world, 3)
    assert pods(world) == {old: 2}
    rolled_back(world)
    assert world.status["lastFailure"]["reason"] == "ProgressDeadlineExceeded"
    assert "since" not in world.status["target"]
    settled(world)


def test_the_deadline_goes_on_counting_through_restarts_and_a_lost_status() -> None:
    world = serving()
    old, new = edit(world)
    world.silent = {new}
    turn(world, 3)
    since = world.status["target"]["since"]
    world.tick(DEADLINE / 2)
    world.lose_status()
    turn(world)
    assert world.status["target"]["since"] == since
    world.tick(DEADLINE / 2)
    turn(world, 3)
    rolled_back(world)
    assert pods(world) == {old: 2}


def test_a_pod_that_became_ready_starts_the_deadline_anew() -> None:
    world = serving()
    _, new = edit(world)
    world.tick(DEADLINE / 2)
    turn(world)
    assert [pod for pod in world.ready_pods() if pod["metadata"]["labels"]["vicuna.dev/revision"] == new]
    world.tick(DEADLINE - 10)
    world.reconcile()
    world.run_deployments()
    assert world.condition("Ready")["reason"] == "RollingOut"
    world.tick(10)
    world.reconcile()
    rolled_back(world)


@pytest.mark.long
def test_a_drained_replica_is_brought_back() -> None:
    world = serving(gpus=2)
    old, new = edit(world)
    world.silent = {new}
    least = 2
    for _ in range(DEADLINE + 60):
        turn(world)
        least = min(least, len(world.ready_pods()))
    assert least == 1
    assert pods(world) == {old: 2}
    assert len(world.ready_pods()) == 2
    rolled_back(world)


def test_the_only_replica_is_brought_back() -> None:
    world = serving(gpus=1, replicas=1)
    old, new = edit(world)
    world.silent = {new}
    turn(world, 40)
    assert pods(world) == {new: 1}
    world.tick(DEADLINE)
    turn(world, 4)
    assert pods(world) == {old: 1}
    assert len(world.ready_pods()) == 1
    rolled_back(world)


def test_ready_pods_of_a_half_done_rollout_serve_until_the_old_revision_does() -> None:
    world = serving(gpus=2, strategy="Drain")
    old, new = edit(world)
    while new not in {pod["metadata"]["labels"]["vicuna.dev/revision"] for pod in world.ready_pods()}:
        turn(world)
    first = {pod["metadata"]["name"] for pod in world.ready_pods()}
    world.silent = {new}

    def load() -> None:
        world.tick(1)
        world.reconcile()
        world.run_deployments()
        kept = [pod["metadata"]["name"] for pod in world.ready_pods() if pod["metadata"]["name"] in first]
        world.make_ready()
        for name in kept:  # the first pod of the new revision is well, only the second is not
            world.set_ready(world.find("Pod", name), True)

    least = 2
    for _ in range(20):
        load()
        least = min(least, len(world.ready_pods()))
    world.tick(DEADLINE)
    for _ in range(10):
        load()
        least = min(least, len(world.ready_pods()))
    assert least == 1
    assert pods(world) == {old: 2}
    rolled_back(world)


def failed_once() -> tuple[World, str, str]:
    world = serving()
    old, new = edit(world)
    world.crashing = {new: EXIT_70}
    turn(world, 4)
    rolled_back(world)
    return world, old, new


def test_scaling_does_not_try_a_failed_revision_again() -> None:
    world, old, _ = failed_once()
    world.edit(serving={"replicas": 3})
    world.settle()
    assert pods(world) == {old: 3}
    rolled_back(world)
    assert world.status["observedGeneration"] == world.body["metadata"]["generation"]


def test_suspending_after_a_rollback_and_resuming_brings_the_good_revision_back() -> None:
    world, old, _ = failed_once()
    world.edit(suspend=True)
    world.settle()
    assert pods(world) == {}
    world.edit(suspend=False)
    world.settle()
    assert pods(world) == {old: 2}
    rolled_back(world)


@pytest.mark.parametrize("how", ["retry", "deadline"])
def test_the_annotation_or_another_spec_tries_again(how: str) -> None:
    world, _, new = failed_once()
    world.crashing = {}
    if how == "retry":
        world.annotate("vicuna.dev/retry", "1")
    else:
        world.edit(serving={"rollout": {"strategy": "Auto", "progressDeadlineSeconds": 900}})
    world.settle()
    assert world.status["active"]["revision"] == new
    assert world.condition("Ready")["status"] == "True"
    assert [item["outcome"] for item in world.status["history"]] == ["Succeeded", "RolledBack", "Succeeded"]


def test_a_second_failure_is_told_again() -> None:
    world, old, _ = failed_once()
    world.annotate("vicuna.dev/retry", "1")
    turn(world, 6)
    rolled_back(world)
    assert pods(world) == {old: 2}
    assert [item["outcome"] for item in world.status["history"]] == ["RolledBack", "RolledBack", "Succeeded"]
    settled(world)


def test_a_newer_edit_during_a_rollback_wins() -> None:
    world, old, new = failed_once()
    world.edit(serving={"maxConcurrency": 9})
    world.settle()
    newest = world.status["active"]["revision"]
    assert newest not in (old, new)
    assert world.condition("Ready")["status"] == "True"
    assert pods(world) == {newest: 2}


def test_going_back_in_the_spec_ends_the_rollback() -> None:
    world, old, new = failed_once()
    world.edit(serving={"maxConcurrency": 32})
    world.settle()
    assert world.status["active"]["revision"] == world.status["target"]["revision"] == old
    assert world.condition("Ready")["status"] == "True"
    world.crashing = {}
    world.edit(serving={"maxConcurrency": 8})
    world.settle()
    assert world.status["active"]["revision"] == new


def test_on_a_first_deployment_there_is_nothing_to_go_back_to_and_it_says_so() -> None:
    world = World()
    world.reconcile()
    world.end_job()
    world.reconcile()
    target = world.status["target"]["revision"]
    world.crashing = {target: EXIT_70}
    turn(world, 3)
    ready = world.condition("Ready")
    assert ready["reason"] == "DeviceUnavailable"
    assert "there is no earlier revision to go back to" in ready["message"]
    assert world.condition("Stalled")["status"] == "True"
    assert world.status["phase"] == "Failed"
    assert pods(world) == {target: 1}
    world.crashing = {}
    world.settle()
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Stalled")["status"] == "False"


def test_a_first_deployment_past_its_deadline_is_stalled_with_the_cause() -> None:
    world = World(model_body(serving={"replicas": 1}), gpus=0)
    world.reconcile()
    world.end_job()
    turn(world, 3)
    assert world.condition("Stalled")["status"] == "False"
    world.tick(1800)
    turn(world)
    ready = world.condition("Ready")
    assert ready["reason"] == "Unschedulable"
    assert "Insufficient nvidia.com/gpu" in ready["message"]
    assert "no earlier revision" in ready["message"]
    assert world.condition("Stalled")["status"] == "True"
    before = world.writes
    world.reconcile()
    assert world.writes == before


def test_pods_lost_after_the_rollout_are_not_a_failed_rollout() -> None:
    world = serving()
    edit(world)
    world.settle()
    new = world.status["active"]["revision"]
    world.silent = {new}
    world.make_ready()
    turn(world, 2)
    world.tick(86400)
    turn(world, 2)
    assert pods(world) == {new: 2}
    assert world.condition("Ready")["reason"] != "RolledBack"
    assert world.condition("Available")["status"] == "False"


def test_an_edit_that_overtakes_a_rollout_is_in_the_history() -> None:
    world = serving()
    old, new = edit(world)
    world.edit(serving={"maxConcurrency": 9})
    world.settle()
    history = world.status["history"]
    assert [item["outcome"] for item in history] == ["Succeeded", "Superseded", "Succeeded"]
    assert [item["revision"] for item in history[1:]] == [new, old]


def test_the_history_keeps_ten() -> None:
    world = serving()
    for concurrency in range(1, 12):
        edit(world, concurrency)
        world.settle()
    assert len(world.status["history"]) == 10
    assert world.status["history"][0]["revision"] == world.status["active"]["revision"]
    settled(world)
