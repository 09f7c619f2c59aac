"""Artifacts nobody refers to any more are removed from the model's own claim; what may still be needed never is."""

import json
from typing import Any

from support.cluster import model_body
from support.world import World

HOUR = 3600


def merged(world: World, artifact: str) -> None:
    world.reconcile()
    world.end_job(message=json.dumps({"reason": "Merged", "artifactID": artifact}))
    world.settle()


def history(*artifacts: str, keep: int = 1, **spec: Any) -> World:
    """Return a world in which these artifacts were merged one after the other, an hour apart."""
    world = World(model_body(storage={"size": "10Gi", "keepRevisions": keep}, **spec))
    for artifact in artifacts:
        world.edit(weights={"base": {"source": f"pvc://inputs/{artifact}"}})
        merged(world, artifact)
        world.tick(HOUR)
    return world


def prunes(world: World) -> list[dict[str, Any]]:
    return [job for job in world.all("Job") if job["metadata"]["labels"]["app.kubernetes.io/name"] == "vicuna-prune"]


def kept(job: dict[str, Any]) -> list[str]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    words = container["args"]
    assert words[:3] == ["artifacts", "prune", "/models/artifacts"]
    assert set(words[3::2]) == {"--keep"}
    return list(words[4::2])


def end(world: World, job: dict[str, Any], kind: str = "Complete") -> None:
    moment = world.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    job["status"] = {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": moment}]}
    world.put(job)


def noted(world: World) -> set[str]:
    claim = world.find("PersistentVolumeClaim", "demo-weights")
    return set(json.loads(claim["metadata"]["annotations"]["vicuna.dev/artifacts"]))


def test_what_no_kept_revision_serves_is_removed_and_then_all_is_quiet() -> None:
    world = history("a" * 16, "b" * 16)
    world.reconcile()
    assert prunes(world) == [], "the revision before the present one is kept"
    world = history("a" * 16, "b" * 16, "c" * 16)
    world.reconcile()
    (job,) = prunes(world)
    assert kept(job) == ["b" * 16, "c" * 16]
    assert world.condition("Ready")["status"] == "True"
    assert noted(world) == {"a" * 16, "b" * 16, "c" * 16}
    end(world, job)
    world.settle()
    assert prunes(world) == []
    assert noted(world) == {"b" * 16, "c" * 16}
    before = world.writes
    world.tick(HOUR)
    world.reconcile()
    assert world.writes == before


def test_an_artifact_that_is_young_waits() -> None:
    world = World(model_body(storage={"size": "10Gi", "keepRevisions": 1}))
    for artifact in ("a", "b", "c", "d"):
        world.edit(weights={"base": {"source": f"pvc://inputs/{artifact}"}})
        merged(world, artifact * 16)
    assert prunes(world) == []
    made = world.reconcile()
    assert made.requeue_after is not None
    world.tick(made.requeue_after)
    world.reconcile()
    (job,) = prunes(world)
    assert kept(job) == ["c" * 16, "d" * 16]


def test_what_other_models_use_on_the_claim_is_kept() -> None:
    world = history("a" * 16, "b" * 16, "c" * 16)
    assert kept(prunes(world)[0]) == ["b" * 16, "c" * 16]
    world.neighbours = ["a" * 16]
    world.settle()
    (job,) = prunes(world)
    assert kept(job) == ["a" * 16, "b" * 16, "c" * 16]


def test_a_claim_of_the_user_is_never_touched() -> None:
    world = World(model_body(storage={"claimName": "inputs", "keepRevisions": 1}))
    for artifact in ("a", "b", "c"):
        world.edit(weights={"base": {"source": f"pvc://inputs/{artifact}"}})
        merged(world, artifact * 16)
        world.tick(HOUR)
    world.reconcile()
    assert prunes(world) == []
    assert "annotations" not in world.find("PersistentVolumeClaim", "inputs")["metadata"]


def test_while_new_weights_merge_nothing_is_removed() -> None:
    world = history("a" * 16, "b" * 16, "c" * 16)
    world.edit(weights={"base": {"source": "pvc://inputs/d"}})
    world.reconcile()
    world.reconcile()
    assert prunes(world) == []


def test_a_removal_that_what_is_needed_now_would_not_survive_is_called_off() -> None:
    world = history("a" * 16, "b" * 16, "c" * 16)
    world.reconcile()
    assert prunes(world)
    world.edit(weights={"base": {"source": "pvc://inputs/a"}})
    merged(world, "a" * 16)
    assert [job for job in prunes(world) if "a" * 16 not in kept(job)] == []
    assert world.condition("Ready")["status"] == "True"


def test_a_failed_removal_is_told_and_tried_again_after_an_hour() -> None:
    world = history("a" * 16, "b" * 16, "c" * 16)
    world.reconcile()
    (job,) = prunes(world)
    end(world, job, "Failed")
    world.settle()
    assert ("Warning", "PruneFailed") in {(kind, reason) for kind, reason, _ in world.new_events}
    assert world.condition("Ready")["status"] == "True"
    made = world.reconcile()
    assert made.requeue_after is not None
    world.tick(made.requeue_after + 1)
    world.reconcile()
    world.reconcile()
    (again,) = prunes(world)
    assert again["metadata"]["uid"] != job["metadata"]["uid"]


def test_a_note_on_the_claim_that_somebody_spoilt_is_made_anew() -> None:
    world = history("a" * 16, "b" * 16)
    claim = world.find("PersistentVolumeClaim", "demo-weights")
    claim["metadata"]["annotations"]["vicuna.dev/artifacts"] = "[1, 2"
    world.put(claim)
    world.settle()
    assert noted(world) == {"a" * 16, "b" * 16}
