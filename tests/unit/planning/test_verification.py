"""Weights that are lost or damaged are verified at once and merged again where they have to be; what else is told."""

import json
from typing import Any

import pytest

from support.cluster import model_body
from support.world import ARTIFACT, World
from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time

DAMAGE = ["ArtifactDamaged", "ManifestBroken", "ModelNotFound"]
NAME = "demo-weights"


def serving(**spec: Any) -> World:
    world = World(model_body(**spec))
    world.deploy()
    return world


def merges(world: World) -> list[dict[str, Any]]:
    return sorted(world.all("Job"), key=lambda job: int(job["metadata"]["annotations"][c.ANNOTATION_ATTEMPT]))


def looks(world: World) -> list[str]:
    """Return which looks the merge Jobs belong to; empty: an ordinary merge."""
    return [job["metadata"]["annotations"].get(c.ANNOTATION_VERIFY, "") for job in merges(world)]


def fail(world: World, reason: str, rounds: int = 1) -> None:
    """Let all servers fail to load, and the operator see it."""
    for _ in range(rounds):
        world.tick(1)
        message = json.dumps({"reason": reason, "message": "config.json has other bytes"})
        ended = {"exitCode": 65, "message": message, "finishedAt": format_time(world.now)}
        (revision,) = {item["metadata"]["labels"][c.LABEL_REVISION] for item in world.all("Deployment")}
        world.crashing = {revision: ended}
        world.run_deployments()
        world.make_ready()
        world.reconcile()


def heal(world: World) -> None:
    """End the newest Job well; what was damaged is whole."""
    world.tick(1)
    world.crashing = {}
    world.end_job()
    world.settle()


@pytest.mark.parametrize("reason", DAMAGE)
def test_what_a_server_finds_damaged_is_verified_and_serves_again(reason: str) -> None:
    world = serving()
    fail(world, reason)
    assert len(looks(world)) == 2
    assert looks(world)[1]
    (container,) = merges(world)[1]["spec"]["template"]["spec"]["containers"]
    assert {"name": c.VERIFY_VARIABLE, "value": "1"} in container["env"]
    assert ("Warning", "ArtifactDoubted") in {(kind, told) for kind, told, _ in world.new_events}
    assert reason in world.condition("Ready")["message"]
    heal(world)
    assert world.condition("Ready")["status"] == "True"
    assert len(looks(world)) == 2


def test_pods_that_cannot_load_stop_meanwhile_so_that_others_begin_at_once() -> None:
    world = serving()
    fail(world, "ArtifactDamaged")
    assert [item["spec"]["replicas"] for item in world.all("Deployment")] == [0]
    fail(world, "ArtifactDamaged", rounds=3)
    assert len(looks(world)) == 2
    assert [item["spec"]["replicas"] for item in world.all("Deployment")] == [0]


def test_pods_that_serve_go_on_while_another_cannot_load() -> None:
    world = serving(serving={"replicas": 2, "numGpus": 1})
    one = world.server_pods()[0]
    message = json.dumps({"reason": "ArtifactDamaged", "message": "other bytes"})
    ended = {"exitCode": 65, "message": message, "finishedAt": format_time(world.now)}
    world.set_ready(one, False, {"state": {"terminated": ended}, "lastState": {}, "restartCount": 0})
    world.reconcile()
    assert len(looks(world)) == 2
    assert [item["spec"]["replicas"] for item in world.all("Deployment")] == [2]


def test_a_first_rollout_that_finds_damage_is_not_an_end() -> None:
    world = World()
    world.reconcile()
    world.end_job()
    world.reconcile()
    fail(world, "ModelNotFound", rounds=2)
    assert len(looks(world)) == 2
    heal(world)
    assert world.condition("Ready")["status"] == "True"


def test_one_verification_per_claim_and_generation_then_stalled() -> None:
    world = serving()
    fail(world, "ArtifactDamaged")
    world.tick(1)
    world.end_job()
    for _ in range(4):
        fail(world, "ArtifactDamaged", rounds=5)
        assert len(looks(world)) == 2
    assert world.condition("Stalled")["status"] == "True"
    told = world.condition("Ready")["message"]
    assert all(word in told for word in (merges(world)[1]["metadata"]["name"], "ArtifactDamaged", "retry")), told
    before = world.writes
    world.tick(60)
    world.reconcile()
    assert world.writes == before
    world.crashing = {}
    world.make_ready()
    world.settle()
    assert world.condition("Ready")["status"] == "True"


def test_another_generation_may_verify_again() -> None:
    world = serving()
    fail(world, "ArtifactDamaged")
    world.tick(1)
    world.end_job()
    fail(world, "ArtifactDamaged", rounds=2)
    world.edit(rollout={})
    fail(world, "ArtifactDamaged")
    assert len(looks(world)) == 3
    assert len(set(looks(world))) == 3


def test_a_failure_before_the_verification_does_not_count() -> None:
    world = serving()
    fail(world, "ArtifactDamaged")
    ended = world.crashing
    world.tick(10)
    world.end_job()
    world.tick(1)
    world.crashing = ended
    for _ in range(3):
        world.run_deployments()
        world.make_ready()
        world.reconcile()
    assert len(looks(world)) == 2
    assert world.condition("Stalled")["status"] == "False"


def test_each_request_gets_one_verification_and_pods_go_on() -> None:
    world = serving()
    pods = {pod["metadata"]["uid"] for pod in world.server_pods()}
    world.annotate(c.ANNOTATION_VERIFY, "1700000000")
    world.reconcile()
    assert len(looks(world)) == 2
    assert looks(world)[1].endswith("/1700000000")
    assert world.condition("Available")["status"] == "True"
    world.tick(5)
    world.end_job()
    world.settle()
    assert world.condition("Ready")["status"] == "True"
    assert {pod["metadata"]["uid"] for pod in world.server_pods()} == pods
    for job in world.all("Job"):  # somebody tidies up
        world.remove(job)
    world.settle()
    assert world.all("Job") == []


def test_a_verification_that_fails_is_retried_and_reported() -> None:
    world = serving()
    world.annotate(c.ANNOTATION_VERIFY, "1")
    world.reconcile()
    message = json.dumps({"reason": "HubUnreachable", "message": "no route"})
    world.end_job(69, message)
    world.reconcile()
    assert world.condition("WeightsReady")["reason"] == "MergeRetrying"
    world.tick(30)
    world.reconcile()
    assert len(set(looks(world)) - {""}) == 1
    assert len(looks(world)) == 3


def test_other_failures_need_no_verification() -> None:
    world = serving()
    fail(world, "OutOfMemory", rounds=3)
    assert looks(world) == [""]


def test_a_claim_of_another_uid_is_another_claim() -> None:
    """As after a restore: the claim has its old times and a new uid."""
    world = serving()
    claim = world.find("PersistentVolumeClaim", NAME)
    created = claim["metadata"]["creationTimestamp"]
    world.remove(claim)
    world.put({**claim, "metadata": {**claim["metadata"], "uid": "anew", "creationTimestamp": created}})
    world.reconcile()
    assert len(looks(world)) == 2
    heal(world)
    assert world.condition("Ready")["status"] == "True"
    assert len(looks(world)) == 2
    for job in world.all("Job"):  # somebody tidies up
        world.remove(job)
    world.settle()
    assert world.all("Job") == []


def test_objects_without_the_claims_uid_take_the_live_one_at_first_sight() -> None:
    world = serving()
    for kind in ("Job", "Deployment"):
        item = world.only(kind)
        assert item["metadata"]["annotations"][c.ANNOTATION_CLAIM_UID]
        gone = {"metadata": {"annotations": {c.ANNOTATION_CLAIM_UID: None}}}
        world.kube.change(kind, item["metadata"]["name"], gone, "team")
    world.reconcile()
    uid = world.find("PersistentVolumeClaim", NAME)["metadata"]["uid"]
    for kind in ("Job", "Deployment"):
        assert world.only(kind)["metadata"]["annotations"][c.ANNOTATION_CLAIM_UID] == uid
    assert world.reconcile().actions == []


def test_a_claim_that_is_being_deleted_under_its_pods_is_told() -> None:
    world = serving()
    world.kube.lingers.add("PersistentVolumeClaim")
    world.kube.start_deletion("PersistentVolumeClaim", NAME, "team")
    world.reconcile()
    drifted = world.condition("Drifted")
    assert (drifted["status"], drifted["reason"]) == ("True", "ClaimTerminating")
    assert NAME in drifted["message"]
    assert world.condition("Ready")["status"] == "True"
    assert ("Warning", "ClaimTerminating") in {(kind, reason) for kind, reason, _ in world.new_events}
    assert world.all("Job") == [], "the pod of a merge that has ended holds the claim too"
    world.edit(suspend=True)
    world.settle()
    world.kube.finish_deletion()
    world.edit(suspend=False)
    world.settle()
    assert looks(world) == [""]
    heal(world)
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Drifted") == {}


def test_a_claim_of_the_users_own_that_is_gone_is_told() -> None:
    world = World(model_body(storage={"claimName": "mine"}))
    world.add_claim("mine")
    world.deploy()
    world.kube.remove("PersistentVolumeClaim", "mine", "team")
    world.reconcile()
    assert world.condition("Drifted")["reason"] == "ClaimNotFound"


def test_the_weights_cannot_be_pruned_by_gitops() -> None:
    world = World()
    world.reconcile()
    metadata = world.find("PersistentVolumeClaim", NAME)["metadata"]
    assert metadata["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"
    assert metadata["annotations"]["kustomize.toolkit.fluxcd.io/prune"] == "disabled"
    assert c.LABEL_INSTANCE not in metadata["labels"]


def test_a_claim_of_an_earlier_version_gets_that_too_once_and_keeps_what_others_wrote() -> None:
    world = serving()
    claim = world.find("PersistentVolumeClaim", NAME)
    new_events = {"argocd.argoproj.io/sync-options": None, "kustomize.toolkit.fluxcd.io/prune": "mine"}
    before = {"metadata": {"annotations": new_events, "labels": {c.LABEL_INSTANCE: "demo"}}}
    world.kube.change("PersistentVolumeClaim", claim["metadata"]["name"], before, "team")
    world.reconcile()
    metadata = world.find("PersistentVolumeClaim", NAME)["metadata"]
    assert metadata["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"
    assert metadata["annotations"]["kustomize.toolkit.fluxcd.io/prune"] == "mine"
    assert c.LABEL_INSTANCE not in metadata["labels"]
    assert world.reconcile().actions == []


def test_an_artifact_is_known_by_its_id() -> None:
    world = serving()
    assert world.status["active"]["artifactID"] == ARTIFACT
