"""The digest of an artifact's files: told by a merge, wanted by servers; another one makes another revision."""

import json

from support.world import ARTIFACT, World
from vicuna_contract import names as c
from vicuna_operator.planning.config import PlanConfig

FIRST, SECOND = "1" * 64, "2" * 64


def told(digest: str | None) -> str:
    message = {"reason": "Merged", "artifactID": ARTIFACT}
    return json.dumps(message | ({"digest": digest} if digest else {}))


def deployed(digest: str | None) -> World:
    world = World()
    world.reconcile()
    world.end_job(message=told(digest))
    world.settle()
    return world


def wanted(world: World) -> dict[str, str | None]:
    """Return what the pods of each revision with replicas want."""
    found = {}
    for item in world.all("Deployment"):
        (container,) = item["spec"]["template"]["spec"]["containers"]
        values = [one["value"] for one in container["env"] if one["name"] == "VICUNA_ARTIFACT_DIGEST"]
        assert values == [item["metadata"]["annotations"].get(c.ANNOTATION_ARTIFACT_DIGEST)] or not values
        if item["spec"]["replicas"]:
            found[item["metadata"]["name"]] = values[0] if values else None
    return found


def lose_claim(world: World) -> None:
    """The volume is gone, and the operator's next pass finds none of its name."""
    world.kube.remove("PersistentVolumeClaim", "demo-weights", "team")
    world.tick(5)
    world.reconcile()
    world.tick(5)


def test_servers_want_what_the_merge_told() -> None:
    world = deployed(FIRST)
    (job,) = world.all("Job")
    assert job["metadata"]["annotations"][c.ANNOTATION_ARTIFACT_DIGEST] == FIRST
    assert list(wanted(world).values()) == [FIRST]
    assert deployed(None).all("Deployment")[0]["metadata"]["name"] == world.all("Deployment")[0]["metadata"]["name"]
    assert list(wanted(deployed(None)).values()) == [None]


def test_a_digest_outlives_its_job() -> None:
    world = deployed(FIRST)
    (job,) = world.all("Job")
    world.kube.remove("Job", job["metadata"]["name"], "team")
    before = wanted(world)
    world.edit(serving={"maxConcurrency": 3})
    world.settle()
    assert list(wanted(world).values()) == [FIRST]
    assert wanted(world) != before


def test_a_lost_claim_is_merged_onto_again_and_the_model_comes_back_with_other_bytes() -> None:
    """A newer server image may write other small files for the same inputs."""
    world = deployed(FIRST)
    (before,) = wanted(world)
    world.config = PlanConfig(server_image="registry.example/server:2")
    lose_claim(world)
    world.reconcile()
    jobs = world.all("Job")
    assert len(jobs) == 2
    assert world.status["active"]["revision"], "what serves goes on serving meanwhile"
    world.end_job(message=told(SECOND))
    world.settle()
    (after,) = wanted(world)
    assert after != before
    assert wanted(world) == {after: SECOND}
    assert world.condition("Ready")["status"] == "True"
    again = world.reconcile()
    assert again.actions == []


def test_the_same_bytes_change_nothing() -> None:
    world = deployed(FIRST)
    before = {item["metadata"]["name"]: item["spec"] for item in world.all("Deployment")}
    lose_claim(world)
    world.reconcile()
    world.end_job(message=told(FIRST))
    world.settle()
    assert {item["metadata"]["name"]: item["spec"] for item in world.all("Deployment")} == before


def test_a_digest_that_becomes_known_restarts_nothing() -> None:
    world = deployed(None)
    before = {item["metadata"]["name"]: item["spec"] for item in world.all("Deployment")}
    lose_claim(world)
    world.reconcile()
    world.end_job(message=told(FIRST))
    world.settle()
    assert {item["metadata"]["name"]: item["spec"] for item in world.all("Deployment")} == before


def test_back_to_the_first_bytes_is_back_to_the_first_revision() -> None:
    world = deployed(FIRST)
    (first,) = wanted(world)
    for digest in (SECOND, FIRST):
        lose_claim(world)
        world.reconcile()
        world.end_job(message=told(digest))
        world.settle()
        assert list(wanted(world).values()) == [digest]
    assert list(wanted(world)) == [first]


def test_the_default_image_is_kept_with_other_bytes() -> None:
    world = deployed(FIRST)
    lose_claim(world)
    world.reconcile()
    world.end_job(message=told(SECOND))
    world.settle()
    world.config = PlanConfig(server_image="registry.example/server:2")
    before = wanted(world)
    world.settle()
    assert wanted(world) == before
    assert world.status["imageOutdated"] is True


def test_what_is_not_a_digest_is_not_noted() -> None:
    assert list(wanted(deployed("../../x")).values()) == [None]
