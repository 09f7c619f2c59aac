"""What else stands in a pod (a mesh's proxy, an agent) never speaks for the operator's own container."""

import json
from typing import Any

import pytest

from support.cluster import model_body
from support.memory_kube import Body
from support.world import ARTIFACT, MERGED, World
from vicuna_contract import names as c

PROXY: Body = {"name": "istio-proxy", "state": {"running": {}}, "ready": True}  # sorted before "merge" and "server"
BAD_INPUT = json.dumps({"reason": "TensorMissing", "message": "the delta lacks lm_head", "retryable": False})


def stand_beside(world: World, pod: Body, **state: Any) -> None:
    """Let the pod's own container be in this state while a proxy runs."""
    own = {"name": c.SERVER_CONTAINER if pod in world.server_pods() else c.MERGE_CONTAINER, "state": state}
    world.put({**pod, "status": {**pod["status"], "phase": "Running", "containerStatuses": [PROXY, own]}})


def merge_beside_a_proxy(world: World, exit_code: int, message: str) -> None:
    world.reconcile()
    pod = world.job_pod(running={})
    moment = "2026-01-01T00:00:00Z"
    stand_beside(world, pod, terminated={"exitCode": exit_code, "message": message, "finishedAt": moment})


def end_at_the_deadline(world: World) -> None:
    """Do as the Job controller: a Job past its deadline fails, and its pod goes."""
    job = world.only("Job")
    assert job["spec"]["activeDeadlineSeconds"] == 1
    late = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
    world.put({**job, "status": {"conditions": [late]}})
    for pod in world.all("Pod"):
        if pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]:
            world.remove(pod)


def test_a_merge_that_is_done_is_over_though_its_proxy_runs_on() -> None:
    world = World()
    merge_beside_a_proxy(world, 0, MERGED)
    world.reconcile()
    assert world.condition("WeightsReady")["status"] == "True"
    assert world.only("Job")["metadata"]["labels"][c.LABEL_ARTIFACT_ID] == ARTIFACT
    end_at_the_deadline(world)
    world.reconcile()
    world.settle()
    assert world.status["ready"] == "1/1"
    assert [job["metadata"]["name"][-2:] for job in world.all("Job")] == ["-0"], "nothing is merged twice"


def test_a_merge_that_failed_beside_its_proxy_says_why() -> None:
    world = World()
    merge_beside_a_proxy(world, 65, BAD_INPUT)
    for _ in range(2):
        world.reconcile()
        assert world.condition("Ready")["reason"] == "TensorMissing"
        assert world.condition("Stalled")["status"] == "True"
    end_at_the_deadline(world)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "TensorMissing", "the Job's own reason is its deadline"


def test_a_merge_beside_a_proxy_is_tried_again() -> None:
    world = World()
    merge_beside_a_proxy(
        world, 69, json.dumps({"reason": "SourceUnreachable", "message": "no route", "retryable": True})
    )
    world.reconcile()
    assert world.condition("Ready")["reason"] == "MergeRetrying"
    world.reconcile()
    end_at_the_deadline(world)
    world.tick(60)
    world.reconcile()
    assert len(world.all("Job")) == 2


def test_a_merge_that_only_shuts_down_is_given_no_deadline() -> None:
    world = World()
    world.reconcile()
    world.job_pod(terminated={"exitCode": 0, "message": MERGED})  # the Job is told in a moment
    world.reconcile()
    assert world.condition("WeightsReady")["status"] == "True"
    assert "activeDeadlineSeconds" not in world.only("Job")["spec"]


def test_the_artifact_counts_where_the_pods_deadline_came_while_nobody_looked() -> None:
    world = World()
    world.reconcile()
    world.end_job(0, MERGED)
    pod, job = world.only("Pod"), world.only("Job")
    pod["status"] |= {"phase": "Failed", "reason": "DeadlineExceeded"}
    world.put(pod)
    world.put({**job, "status": {"conditions": [{"type": "Failed", "status": "True"}]}})
    world.reconcile()
    assert world.condition("WeightsReady")["status"] == "True"


@pytest.mark.parametrize("proxy", [PROXY, {"name": "agent", "state": {"waiting": {"reason": "PodInitializing"}}}])
def test_a_server_that_ends_beside_a_proxy_says_why(proxy: Body) -> None:
    world = World(model_body(serving={"replicas": 1}))
    world.reconcile()
    world.end_job()
    world.reconcile()
    world.run_deployments()
    (pod,) = world.server_pods()
    said = json.dumps({"reason": "DeviceUnavailable", "message": "no GPU is visible", "retryable": False})
    own = {"name": "server", "state": {"terminated": {"exitCode": 70, "message": said}}}
    pod["status"] |= {"phase": "Running", "containerStatuses": [proxy, own]}
    world.put(pod)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "DeviceUnavailable"


def test_a_pod_of_an_earlier_job_of_that_name_does_not_speak_for_this_one() -> None:
    world = World()
    world.reconcile()
    pod = world.job_pod(terminated={"exitCode": 65, "message": BAD_INPUT})
    pod["metadata"]["ownerReferences"][0]["uid"] = "uid-of-an-earlier-job"
    world.put(pod)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "MergePending"


def test_a_clean_up_beside_a_proxy_is_over() -> None:
    world = World()
    world.deploy()
    world.edit(weights={"base": {"source": "pvc://inputs/base"}, "delta": {"source": "pvc://inputs/other"}})
    world.reconcile()
    world.end_job(0, MERGED.replace(ARTIFACT, "fedcba9876543210"))
    world.settle()
    for name in [item["metadata"]["name"] for item in world.all("Deployment")][:1]:
        world.kube.remove("Deployment", name, "team")
    for _ in range(20):
        world.wait()
        world.reconcile()
        jobs = [job for job in world.all("Job") if c.ANNOTATION_KEPT in job["metadata"]["annotations"]]
        if jobs:
            break
    (job,) = jobs
    pod = world.run_job(job, running={})
    stand_beside(world, pod, terminated={"exitCode": 0, "message": '{"reason": "Pruned"}'})
    world.reconcile()
    assert c.ANNOTATION_KEPT not in world.only("Job")["metadata"]["annotations"], "removed, and its pod with it"
