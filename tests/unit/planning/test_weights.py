"""The way to the artifact: claim, attempts, failures, retries."""

import json
from typing import Any

import pytest

from support.cluster import model_body
from support.world import ARTIFACT, World
from vicuna_operator.planning.actions import Patch
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.stopped_status import refused


def test_first_pass_makes_claim_job_and_service() -> None:
    world = World()
    world.reconcile()
    job = world.only("Job")
    assert job["metadata"]["name"].startswith("demo-merge-")
    assert job["metadata"]["name"].endswith("-0")
    assert world.find("PersistentVolumeClaim", "demo-weights")
    assert world.find("Service", "demo")
    assert world.condition("Ready")["status"] == "False"
    assert world.condition("Ready")["reason"] == "MergePending"
    assert world.status["phase"] == "Pending"


def test_merged_artifact_is_noted_on_the_job_and_deployed() -> None:
    world = World()
    world.deploy()
    assert world.only("Job")["metadata"]["labels"]["vicuna.dev/artifact-id"] == ARTIFACT
    deployment = world.only("Deployment")
    assert deployment["metadata"]["labels"]["vicuna.dev/artifact-id"] == ARTIFACT
    assert world.status["phase"] == "Ready"
    assert world.condition("WeightsReady")["status"] == "True"


def test_what_a_merge_warns_of_stands_on_the_model_and_is_an_event_once() -> None:
    world = World()
    world.reconcile()
    warning = {"reason": "ConversionLossy", "message": "27 values were changed by converting them to float16"}
    world.end_job(message=json.dumps({"reason": "Merged", "artifactID": ARTIFACT, "warnings": [warning]}))
    world.settle()
    assert world.status["phase"] == "Ready"
    assert [note for note in world.new_events if note[1] == "ConversionLossy"] == [("Warning", *warning.values())]
    told = f"artifact {ARTIFACT}; ConversionLossy: {warning['message']}"
    assert world.condition("WeightsReady")["message"] == told
    world.remove(world.only("Job"))  # with its pod, and what it told
    world.settle()
    assert world.condition("WeightsReady")["message"] == f"artifact {ARTIFACT}"


@pytest.mark.parametrize("told", ["{", "5", "[[1]]", '["ab"]', "null"])
def test_a_strange_annotation_is_not_a_warning(told: str) -> None:
    job = {"metadata": {"name": "j", "uid": "u", "annotations": {"vicuna.dev/merge-warnings": told}}}
    assert not JobView.of(job).warnings


def test_job_lost_after_deployment_merges_nothing_again() -> None:
    world = World()
    world.deploy()
    for job in world.all("Job"):
        world.remove(job)
    before = world.writes
    world.settle()
    assert not world.all("Job")
    assert world.writes == before


def test_result_lost_with_the_pod_runs_the_job_again() -> None:
    world = World()
    world.reconcile()
    world.end_job()
    world.remove(world.only("Pod"))
    world.tick(60)
    world.reconcile()
    assert len(world.all("Job")) == 2
    world.end_job()
    world.settle()
    assert world.status["phase"] == "Ready"


@pytest.mark.parametrize(
    ("exit_code", "message", "reason"),
    [
        (
            65,
            json.dumps({"reason": "ShapeMismatch", "message": "lm_head differs", "retryable": False}),
            "ShapeMismatch",
        ),
        (64, json.dumps({"reason": "UsageError", "message": "bad flag", "retryable": False}), "UsageError"),
        (65, "plain text", "Crashed"),
    ],
)
def test_terminal_failure_is_shown_and_never_repeated(exit_code: int, message: str, reason: str) -> None:
    world = World()
    world.reconcile()
    world.end_job(exit_code, message)
    for _ in range(5):
        world.tick(3600)
        world.reconcile()
    assert len(world.all("Job")) == 1
    assert world.condition("Ready")["reason"] == reason
    assert world.condition("Stalled")["status"] == "True"
    assert world.status["phase"] == "Failed"
    assert world.status["lastFailure"]["exitCode"] == exit_code
    assert ("Warning", reason) in {(kind, why) for kind, why, _ in world.new_events}


def test_oom_is_terminal_and_names_the_field() -> None:
    world = World()
    world.reconcile()
    world.end_job(137, "", reason="OOMKilled")
    world.tick(3600)
    world.reconcile()
    assert len(world.all("Job")) == 1
    assert "spec.merge.resources.limits.memory" in world.condition("Ready")["message"]


def test_transient_failures_back_off_then_give_up() -> None:
    world = World(model_body(merge={"retries": 2}))
    waits = []
    world.reconcile()
    message = json.dumps({"reason": "SourceUnreachable", "message": "no route", "retryable": True})
    for _ in range(2):
        world.end_job(69, message)
        made = world.reconcile()
        assert world.condition("Ready")["reason"] == "MergeRetrying"
        assert made.requeue_after is not None
        waits.append(made.requeue_after)
        world.tick(made.requeue_after)
        world.reconcile()
    world.end_job(69, message)
    world.reconcile()
    assert waits == [10, 20]
    assert len(world.all("Job")) == 3
    assert world.condition("Ready")["reason"] == "SourceUnreachable"
    assert world.condition("Stalled")["status"] == "True"
    world.tick(86400)
    world.reconcile()
    assert len(world.all("Job")) == 3


def test_collected_pod_does_not_change_the_diagnosis() -> None:
    world = World()
    world.reconcile()
    world.end_job(65, json.dumps({"reason": "NotADelta", "message": "a model", "retryable": False}))
    world.reconcile()
    world.remove(world.only("Pod"))
    world.tick(3600)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "NotADelta"
    assert len(world.all("Job")) == 1


def test_retry_annotation_starts_a_new_series() -> None:
    world = World()
    world.reconcile()
    world.end_job(65, json.dumps({"reason": "NotADelta", "message": "a model", "retryable": False}))
    world.reconcile()
    world.annotate("vicuna.dev/retry", "now")
    world.reconcile()
    assert len(world.all("Job")) == 2


def test_larger_claim_is_worth_another_attempt() -> None:
    world = World(model_body(storage={"claimName": "inputs"}))
    world.reconcile()
    world.end_job(73, json.dumps({"reason": "OutOfSpace", "message": "1 GiB short", "retryable": False}))
    world.reconcile()
    world.reconcile()
    assert len(world.all("Job")) == 1
    world.kube.change("PersistentVolumeClaim", "inputs", {"status": {"capacity": {"storage": "20Gi"}}}, "team")
    world.reconcile()
    assert len(world.all("Job")) == 2


def test_new_weights_supersede_a_running_merge() -> None:
    world = World()
    world.reconcile()
    world.job_pod(running={})
    old = world.only("Job")["metadata"]["name"]
    world.edit(weights={"base": {"source": "pvc://inputs/other"}})
    world.reconcile()
    assert world.only("Job")["metadata"]["name"] != old


def test_new_resources_replace_a_pending_attempt_but_not_a_running_one() -> None:
    world = World()
    world.reconcile()
    world.edit(merge={"resources": {"limits": {"memory": "2Gi"}}})
    world.reconcile()
    assert world.only("Job")["metadata"]["name"].endswith("-1")
    world.job_pod(running={})
    world.edit(merge={"resources": {"limits": {"memory": "3Gi"}}})
    world.reconcile()
    assert world.only("Job")["metadata"]["name"].endswith("-1")


def test_a_missing_source_claim_is_named_and_no_job_is_made() -> None:
    world = World(model_body(weights={"base": {"source": "pvc://absent/base"}}))
    made = world.reconcile()
    assert not world.all("Job")
    assert world.condition("Ready")["reason"] == "ClaimNotFound"
    assert "absent" in world.condition("Ready")["message"]
    assert made.requeue_after is not None
    world.add_claim("absent")
    world.reconcile()
    assert world.only("Job")


def test_progress_is_shown_with_rate_and_time_left() -> None:
    world = World()
    world.reconcile()
    world.job_pod(running={})
    made = world.reconcile()
    assert made.read_progress == world.only("Pod")["metadata"]["name"]
    world.progress = {"event": "progress", "bytesDone": 250, "bytesTotal": 1000, "bytesPerSecond": 50}
    world.reconcile()
    assert world.status["merge"] == {
        "percent": 25,
        "bytesDone": 250,
        "bytesTotal": 1000,
        "bytesPerSecond": 50,
        "remainingSeconds": 15,
        "attempt": 0,
    }
    assert world.status["phase"] == "Merging"


def test_stuck_merge_pod_is_explained_by_its_events() -> None:
    world = World()
    world.reconcile()
    pod = world.job_pod(waiting={"reason": "ContainerCreating"})
    world.tick(4)
    made = world.reconcile()
    assert list(made.ask_events) == [pod["metadata"]["uid"]]
    from vicuna_operator.planning.observed import EventView

    world.events[pod["metadata"]["uid"]] = [EventView("Warning", "FailedMount", "volume is gone")]
    world.reconcile()
    assert world.condition("Ready")["reason"] == "VolumeMountFailed"
    assert "volume is gone" in world.condition("Ready")["message"]


def test_foreign_claim_of_that_name_is_never_touched() -> None:
    world = World()
    world.add_claim("demo-weights")
    world.reconcile()
    assert world.condition("Ready")["reason"] == "NameConflict"
    assert not world.all("Job")


def test_retained_claim_is_adopted_again_and_follows_the_policy() -> None:
    world = World()
    labels = {"app.kubernetes.io/managed-by": "vicuna-operator", "vicuna.dev/model": "demo"}
    world.add_claim("demo-weights", **labels)
    world.reconcile()
    assert "ownerReferences" not in world.find("PersistentVolumeClaim", "demo-weights")["metadata"]
    assert world.only("Job")
    world.edit(storage={"reclaimPolicy": "Delete"})
    world.reconcile()
    (owner,) = world.find("PersistentVolumeClaim", "demo-weights")["metadata"]["ownerReferences"]
    assert owner["uid"] == "uid-demo"
    world.edit(storage={"reclaimPolicy": "Retain"})
    world.reconcile()
    assert world.find("PersistentVolumeClaim", "demo-weights")["metadata"]["ownerReferences"] == []


def test_another_claim_merges_again_and_makes_another_revision() -> None:
    world = World()
    world.deploy()
    before = world.status["active"]["revision"]
    world.add_claim("bigger")
    world.edit(storage={"claimName": "bigger", "size": None})
    world.reconcile()
    assert len(world.all("Job")) == 2
    world.end_job()
    world.settle()
    assert world.status["active"]["revision"] != before
    assert world.status["phase"] == "Ready"


def test_a_claim_on_its_way_out_is_not_used() -> None:
    world = World()
    labels = {"app.kubernetes.io/managed-by": "vicuna-operator", "vicuna.dev/model": "demo"}
    world.add_claim("demo-weights", **labels)
    world.kube.lingers.add("PersistentVolumeClaim")
    world.kube.start_deletion("PersistentVolumeClaim", "demo-weights", "team")
    made = world.reconcile()
    assert world.condition("Ready")["reason"] == "ClaimPending"
    assert not world.all("Job")
    assert made.requeue_after is not None
    world.remove(world.find("PersistentVolumeClaim", "demo-weights"))
    world.reconcile()
    assert world.only("Job")


def test_a_larger_size_makes_our_claim_grow_and_a_smaller_one_does_nothing() -> None:
    world = World()
    world.deploy()
    for size, requested in (("20Gi", "20Gi"), ("5Gi", "20Gi"), ("20480Mi", "20Gi")):
        world.edit(storage={"size": size})
        world.settle()
        claim = world.find("PersistentVolumeClaim", "demo-weights")
        assert claim["spec"]["resources"]["requests"]["storage"] == requested
    assert world.condition("Ready")["status"] == "True"


def test_growing_comes_last_so_that_a_class_that_refuses_holds_nothing_up() -> None:
    world = World()
    world.deploy()
    world.edit(storage={"size": "20Gi"}, serving={"replicas": 2})
    made = world.reconcile()
    last = made.actions[-1]
    assert isinstance(last, Patch)
    assert last.body == {"spec": {"resources": {"requests": {"storage": "20Gi"}}}}
    assert len(made.actions) > 1


def test_a_class_that_lets_nothing_grow_is_named() -> None:
    world = World()
    message = (
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support"
        " resize"
    )
    status = refused(world.model, "patch PersistentVolumeClaim demo-weights", message, world.now)
    assert status["reason"] == "ExpansionRefused"
    assert "allowVolumeExpansion" in status["conditions"][0]["message"]


def flag(body: dict[str, Any], name: str) -> str:
    """The value of a flag of a Deployment's container."""
    (container,) = body["spec"]["template"]["spec"]["containers"]
    return str(container["args"][container["args"].index(name) + 1])


def merged(template: object) -> str:
    return json.dumps({"reason": "Merged", "artifactID": ARTIFACT, "chatTemplate": template})


def test_what_auto_came_to_is_served_and_outlives_the_job() -> None:
    world = World()
    world.reconcile()
    world.end_job(message=merged("vicuna_v1.1"))
    world.settle()
    assert flag(world.only("Deployment"), "--chat-template") == "vicuna_v1.1"
    world.remove(world.only("Job"))
    world.edit(serving={"maxConcurrency": 7})
    world.settle()
    assert [flag(one, "--chat-template") for one in world.all("Deployment")] == ["vicuna_v1.1"] * 2
    world.edit(serving={"maxConcurrency": 7, "chatTemplate": "alpaca"})
    world.settle()
    assert {flag(one, "--chat-template") for one in world.all("Deployment")} == {"vicuna_v1.1", "alpaca"}


@pytest.mark.parametrize("told", ["auto", "chatml", "", None, 5, ["alpaca"]])
def test_a_template_that_is_not_told_is_the_servers_to_find(told: object) -> None:
    world = World()
    world.reconcile()
    world.end_job(message=merged(told))
    world.settle()
    assert flag(world.only("Deployment"), "--chat-template") == "auto"


def test_what_was_asked_for_is_not_what_auto_came_to() -> None:
    """The artifact may have been there, and pin another one."""
    world = World()
    world.edit(serving={"chatTemplate": "alpaca"})
    world.reconcile()
    world.end_job(message=merged("alpaca"))
    world.settle()
    world.edit(serving={"chatTemplate": "auto"})
    world.settle()
    assert {flag(one, "--chat-template") for one in world.all("Deployment")} == {"alpaca", "auto"}
