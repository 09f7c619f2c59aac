"""What a status advises fits the cause, and promises nothing that will not come."""

import json
from typing import Any

import pytest

from support.cluster import model_body
from support.memory_kube import Body
from support.world import MERGED, World

BAD_INPUT = json.dumps({"reason": "TensorMissing", "message": "the delta lacks lm_head", "retryable": False})
PREEMPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "made way"}


def merge_pod(world: World, status: Body, *, exit_code: int, message: str = "") -> None:
    """End the merge's pod, with more in its status."""
    world.end_job(exit_code, message)
    pod = max(world.all("Pod"), key=lambda item: str(item["metadata"]["creationTimestamp"]))
    pod["status"] |= status
    world.put(pod)


def started(**spec: Any) -> World:
    world = World(model_body(**spec))
    world.reconcile()
    return world


@pytest.mark.parametrize("exit_code", [1, 137, 143])
def test_a_merge_that_the_cluster_disrupts_uses_up_no_retry_whatever_its_exit_code(exit_code: int) -> None:
    world = started(merge={"retries": 0})
    merge_pod(world, {"conditions": [PREEMPTED]}, exit_code=exit_code)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "MergeRetrying"
    assert "PreemptionByScheduler: made way" in world.condition("Ready")["message"]
    assert world.condition("Stalled")["status"] == "False"


@pytest.mark.parametrize(
    "status",
    [
        {"conditions": [PREEMPTED]},
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
        {"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active on the node longer than"},
    ],
)
def test_a_merge_that_said_why_it_failed_before_its_pod_was_taken_keeps_its_own_reason(status: Body) -> None:
    world = started()
    merge_pod(world, status, exit_code=65, message=BAD_INPUT)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "TensorMissing"
    assert world.condition("Stalled")["status"] == "True"


def test_a_merge_at_its_deadline_says_so() -> None:
    world = started()
    late = {"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active on the node longer than"}
    merge_pod(world, late, exit_code=75, message=json.dumps({"reason": "Interrupted", "message": "m"}))
    world.reconcile()
    assert world.condition("Ready")["reason"] == "DeadlineExceeded"


def retried(world: World, *, until_stalled: int = 10) -> None:
    for _ in range(until_stalled):
        world.reconcile()
        if world.condition("Stalled")["status"] == "True":
            return
        world.wait()
        before = len(world.all("Job"))
        world.reconcile()
        if len(world.all("Job")) > before:
            refuse(world)
    raise AssertionError("never stalled")


def refuse(world: World) -> None:
    merge_pod(world, {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no devices"}, exit_code=1)
    for pod in world.all("Pod"):
        world.put({**pod, "status": {**pod["status"], "containerStatuses": []}})


def test_what_is_stalled_promises_no_other_try() -> None:
    world = started(merge={"retries": 1})
    refuse(world)
    world.reconcile()
    assert "the operator tries again" in world.condition("Ready")["message"]
    retried(world)
    assert world.condition("Ready")["reason"] == "NodeRefused"
    assert "tries again" not in world.condition("Ready")["message"]
    assert "(tried 2 times)" in world.condition("Stalled")["message"]


@pytest.mark.parametrize("message", ["", "done", "[" * 5000, MERGED.replace("0123456789abcdef", "../../etc")])
def test_a_merge_that_ends_well_and_names_no_artifact_is_tried_again_and_then_told(message: str) -> None:
    world = started(merge={"retries": 1})
    for _ in range(12):
        world.end_job(0, message)
        world.reconcile()
        if world.condition("Stalled")["status"] == "True":
            break
        world.wait()
        world.reconcile()
    assert world.condition("Ready")["reason"] == "MergeFailed"
    assert "did not name its artifact" in world.condition("Ready")["message"]
    assert len(world.all("Job")) == 2


def test_a_volume_that_is_being_made_is_not_a_warning_at_first() -> None:
    world = started()
    pod = world.job_pod()
    said = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: not helpful."
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    pod["status"] = {"phase": "Pending", "conditions": [waits]}
    pod["spec"].pop("nodeName")
    world.put(pod)
    claim = world.find("PersistentVolumeClaim", "demo-weights")
    world.put({**claim, "status": {"phase": "Pending"}})
    for _ in range(2):
        world.tick(10)
        world.reconcile()
    ready = world.condition("Ready")
    assert (ready["reason"], ready["message"]) == (
        "MergePending",
        "waiting for the volume of PersistentVolumeClaim demo-weights",
    )
    assert "Warning" not in {kind for kind, _, _ in world.new_events}
    world.tick(15)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "Unschedulable"
    assert said in world.condition("Ready")["message"]
