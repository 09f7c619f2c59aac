"""A merge that the cluster took off its node is tried again, however often, and goes on from what was finished."""

import json
from typing import Any

import pytest

from support.cluster import model_body
from support.world import World

FAILS = json.dumps({"reason": "SourceUnreachable", "message": "no route", "retryable": True})
INTERRUPTED = json.dumps({"reason": "Interrupted", "message": "a signal ended it", "retryable": True})
EVICTED = {"reason": "Evicted", "message": "The node was low on resource: memory."}


def disrupt(world: World, exit_code: int = 137, message: str = "", **status: Any) -> None:
    world.end_job(exit_code, message)
    job = world.all("Job")[-1]["metadata"]["name"]
    pod = next(pod for pod in world.all("Pod") if pod["metadata"]["labels"]["job-name"] == job)
    world.put({**pod, "status": {**pod["status"], **status}})
    world.reconcile()


def next_attempt(world: World) -> None:
    attempts = len(world.all("Job"))
    for _ in range(10):
        world.tick(300)
        world.reconcile()
        if len(world.all("Job")) > attempts:
            return
    raise AssertionError(world.condition("Ready"))


@pytest.mark.parametrize(
    "status",
    [EVICTED, {"reason": "Terminated", "message": "Pod was terminated in response to imminent node shutdown."}, {}],
)
def test_disruptions_use_up_no_retries(status: dict[str, Any]) -> None:
    world = World(model_body(merge={"retries": 1}))
    world.reconcile()
    for _ in range(4):
        disrupt(world, *(() if status else (75, INTERRUPTED)), **status)
        assert world.condition("Ready")["reason"] == "MergeRetrying"
        assert world.condition("Stalled")["status"] == "False"
        assert "the operator tries again" in world.condition("Ready")["message"]
        for pod in world.all("Pod"):
            world.remove(pod)  # as a drain does
        next_attempt(world)
    disrupt(world, 69, FAILS)
    assert "attempt 1 of 2 failed" in world.condition("Ready")["message"], "the first that counts"
    next_attempt(world)
    disrupt(world, 69, FAILS)
    assert world.condition("Stalled")["status"] == "True"


def test_a_pod_that_a_drain_took_with_all_it_said_is_made_again() -> None:
    world = World(model_body(merge={"retries": 0}))
    world.reconcile()
    world.end_job(137, "")
    world.remove(world.only("Pod"))
    world.reconcile()
    assert world.condition("Ready")["reason"] == "MergeRetrying"
    next_attempt(world)
