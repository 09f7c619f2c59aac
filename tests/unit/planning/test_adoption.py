"""Children without their model: after a restore from a backup, and after a deletion that left orphans."""

from typing import Any

import pytest

from support.cluster import model_body
from support.world import World
from vicuna_contract import names as c
from vicuna_operator.planning.adoption import adopt
from vicuna_server.gateway.objects import model_of

NEW = "uid-anew"
KINDS = ("PersistentVolumeClaim", "Job", "Deployment", "Service", "Pod", "PodDisruptionBudget")


def orphaned(owners: str = "stripped", *, claim_uid: str | None = None, jobs: bool = True) -> tuple[World, World]:
    """Return a world that served, and the one that a backup of it makes: the model has another uid and no status.

    The owners of its children are `stripped`, as Velero does, or `stale`.
    """
    before = World(model_body(serving={"replicas": 2}, storage={"size": "10Gi", "accessMode": "ReadWriteMany"}))
    before.deploy()
    body = before.body
    after = World({**body, "status": {}, "metadata": {**body["metadata"], "uid": NEW}})
    after.now = before.now
    for kind in KINDS:
        for item in before.all(kind):
            if item["metadata"]["name"] == "inputs" or (kind == "Job" and not jobs):
                continue
            metadata = dict(item["metadata"])
            if owners == "stripped" and kind != "Pod":
                metadata.pop("ownerReferences", None)
            if kind == "PersistentVolumeClaim" and claim_uid is not None:
                metadata["uid"] = claim_uid
            after.kube.restore({**item, "metadata": metadata}, "team")
    return before, after


def shape(world: World) -> dict[str, Any]:
    return {item["metadata"]["name"]: item["spec"]["template"] for item in world.all("Deployment")}


@pytest.mark.parametrize("owners", ["stripped", "stale"])
@pytest.mark.parametrize("jobs", [True, False])
def test_what_was_restored_goes_on_without_a_restarted_pod(owners: str, jobs: bool) -> None:
    before, world = orphaned(owners, jobs=jobs)
    world.settle()
    assert world.condition("Ready")["status"] == "True"
    assert {pod["metadata"]["uid"] for pod in world.server_pods()} == {
        pod["metadata"]["uid"] for pod in before.server_pods()
    }
    assert shape(world) == shape(before)
    assert world.condition("Drifted") == {}
    for kind in ("Deployment", "Service", "PodDisruptionBudget"):
        (owner,) = world.only(kind)["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (NEW, True)
    assert world.reconcile().actions == []


def test_on_a_volume_that_was_restored_a_merge_looks_whether_the_weights_are_there() -> None:
    """It takes seconds; a Job of the backup is not believed."""
    before, world = orphaned(claim_uid="restored")
    pods = {pod["metadata"]["uid"] for pod in before.server_pods()}
    world.reconcile()
    world.reconcile()
    (job,) = world.all("Job")
    assert job["metadata"]["ownerReferences"][0]["uid"] == NEW
    assert job["metadata"]["uid"] not in {item["metadata"]["uid"] for item in before.all("Job")}
    assert {pod["metadata"]["uid"] for pod in world.server_pods()} == pods
    world.tick(1)
    world.end_job()
    world.settle()
    assert world.condition("Ready")["status"] == "True"
    assert {pod["metadata"]["uid"] for pod in world.server_pods()} == pods


def test_pods_of_an_adopted_deployment_that_are_made_later_count_too() -> None:
    _, world = orphaned()
    world.settle()
    world.edit(serving={"replicas": 3})
    world.settle()
    assert world.condition("Ready")["status"] == "True"
    assert world.status["replicas"] == 3
    world.edit(serving={"maxConcurrency": 3})
    world.settle()
    assert world.condition("Ready")["status"] == "True"
    assert len({item["metadata"]["name"] for item in world.all("Deployment")}) == 2


def test_a_stray_that_was_changed_is_not_adopted_and_told() -> None:
    _, world = orphaned()
    item = world.only("Deployment")
    item["spec"]["template"]["spec"]["containers"][0]["image"] = "evil.example/server:1"
    world.put(item)
    for _ in range(3):
        world.reconcile()
    assert "ownerReferences" not in world.only("Deployment")["metadata"]
    drifted = world.condition("Drifted") or world.condition("Ready")
    assert drifted["reason"] in ("Orphaned", "NameConflict"), drifted


@pytest.mark.parametrize("owner", [{"kind": "ReplicaSet", "name": "demo"}, {"kind": c.KIND, "name": "other"}])
def test_what_belongs_to_somebody_else_is_left_alone(owner: dict[str, str]) -> None:
    _, world = orphaned()
    reference = {"apiVersion": "x/v1", "uid": "theirs", "controller": True, **owner}
    for kind in ("Job", "Deployment", "Service"):
        item = world.only(kind)
        item["metadata"]["ownerReferences"] = [reference]
        world.remove(item)
        world.kube.restore(item, "team")
    assert adopt(world.model, world.observe(world.model), world.config) == ([], [])


def test_a_users_own_job_that_carries_the_label_is_left_alone() -> None:
    world = World()
    world.deploy()
    metadata = {"name": "demo-merge-report", "labels": {c.LABEL_MODEL: "demo"}}
    world.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}})
    assert world.reconcile().actions == []


def test_a_service_that_is_not_as_it_should_be_is_not_taken() -> None:
    _, world = orphaned()
    service = world.only("Service")
    service["spec"]["selector"] = {"app": "mine"}
    world.put(service)
    world.reconcile()
    world.reconcile()
    assert "ownerReferences" not in world.only("Service")["metadata"]


def test_it_is_told_once() -> None:
    _, world = orphaned()
    world.settle()
    assert [reason for _, reason, _ in world.new_events].count("Adopted") == 1


def test_the_status_names_the_uids_that_adopted_pods_were_made_for() -> None:
    """A gateway signs for them too: such a pod knows its former uid alone."""
    before, world = orphaned()
    former = before.body["metadata"]["uid"]
    assert "formerUIDs" not in before.status
    world.settle()
    assert world.status["formerUIDs"] == [former]
    model = model_of({**world.body, "status": dict(world.status)})
    assert model is not None
    assert model.former_uids == (former,)
    assert world.reconcile().actions == []
