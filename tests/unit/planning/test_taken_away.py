"""A field that is taken away again is gone: nothing that was resolved or remembered for it stays."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.cluster import model_body
from support.world import CONFIG, World
from vicuna_contract import names as c
from vicuna_operator.planning.config import PlanConfig

DEFAULT, NEWER = CONFIG.server_image, "registry.example/server:2"


def live_image(world: World) -> str:
    image: str = world.status["active"]["image"]
    return image


def state(world: World, **serving: Any) -> str:
    """Edit `serving` and begin the rollout; return the revision that should serve."""
    world.edit(serving=serving)
    world.reconcile()
    revision: str = world.status["target"]["revision"]
    return revision


def change(world: World, what: Callable[[dict[str, Any]], None]) -> None:
    for item in world.all("Deployment"):
        what(item)
        world.put(item)


def forget_marks(item: dict[str, Any]) -> None:
    """Make it look as earlier versions left it."""
    item["metadata"]["annotations"].pop(c.ANNOTATION_DEFAULT_IMAGE, None)


def forget_snapshot(item: dict[str, Any]) -> None:
    del item["metadata"]["annotations"][c.ANNOTATION_SPEC_SNAPSHOT]


def mirrored(item: dict[str, Any]) -> None:
    container = item["spec"]["template"]["spec"]["containers"][0]
    container["image"] = f"mirror.example/{container['image']}"


def pinned(item: dict[str, Any]) -> None:
    container = item["spec"]["template"]["spec"]["containers"][0]
    container["image"] += f"@sha256:{'a' * 64}"


@pytest.mark.parametrize("earlier", [False, True], ids=["noted", "earlier version"])
@pytest.mark.parametrize("broken", [False, True], ids=["it serves", "it does not"])
def test_an_image_that_was_stated_is_not_inherited(earlier: bool, broken: bool) -> None:
    world = World()
    world.deploy()
    first = world.status["active"]["revision"]
    stated = state(world, image="registry.example/mine:1")
    assert stated != first
    if broken:
        world.silent = {stated}
        for _ in range(20):
            world.tick(1)
            world.reconcile()
            world.run_deployments()
            world.make_ready()
    else:
        world.settle()
        assert live_image(world) == "registry.example/mine:1"
    if earlier:
        change(world, forget_marks)
    world.edit(serving={"image": None})
    world.settle()
    assert world.status["active"]["revision"] == first
    assert live_image(world) == DEFAULT
    assert world.condition("Ready")["status"] == "True"


def test_an_image_stated_from_the_first_day_on_gives_way_to_the_default() -> None:
    world = World(model_body(serving={"image": "registry.example/absent:1"}))
    world.reconcile()
    world.end_job()
    world.reconcile()
    world.silent = {world.status["target"]["revision"]}
    world.run_deployments()
    world.make_ready()
    world.edit(serving={"image": None})
    world.settle()
    assert live_image(world) == DEFAULT
    assert world.condition("Ready")["status"] == "True"


def test_the_default_that_was_stated_too_is_kept_when_the_field_is_taken_away() -> None:
    world = World(model_body(serving={"image": DEFAULT}))
    world.deploy()
    only = world.status["active"]["revision"]
    world.edit(serving={"image": None})
    world.settle()
    world.config = PlanConfig(server_image=NEWER)
    world.settle()
    assert world.status["active"]["revision"] == only
    assert world.status["imageOutdated"] is True
    assert len(world.all("Deployment")) == 1


@pytest.mark.parametrize("rewrite", [mirrored, pinned])
def test_an_image_rewritten_at_admission_is_not_a_new_revision(rewrite: Callable[[dict[str, Any]], None]) -> None:
    world = World()
    world.reconcile()
    world.end_job()
    world.reconcile()
    change(world, rewrite)
    world.settle()
    only = world.status["active"]["revision"]
    world.config = PlanConfig(server_image=NEWER)
    world.settle()
    assert world.status["active"]["revision"] == only
    assert len(world.all("Deployment")) == 1
    assert world.status["imageOutdated"] is True
    world.annotate(c.ANNOTATION_UPGRADE, only)
    world.settle()
    assert live_image(world) == NEWER


@pytest.mark.parametrize("rewrite", [mirrored, pinned])
def test_an_image_rewritten_under_an_earlier_version_is_noted_while_the_default_is_the_same(
    rewrite: Callable[[dict[str, Any]], None],
) -> None:
    world = World()
    world.deploy()
    change(world, forget_marks)
    change(world, rewrite)
    world.settle()
    world.config = PlanConfig(server_image=NEWER)
    world.settle()
    assert len(world.all("Deployment")) == 1


def test_an_image_pinned_under_an_earlier_version_is_known_without_its_digest() -> None:
    world = World()
    world.deploy()
    change(world, forget_marks)
    change(world, pinned)
    world.config = PlanConfig(server_image=NEWER)
    world.settle()
    assert len(world.all("Deployment")) == 1


@pytest.mark.parametrize("snapshot", ["", "[", "null", "[]", '{"serving": null}', "[" * 100_000])
def test_a_snapshot_that_cannot_be_read_restarts_nothing(snapshot: str) -> None:
    world = World()
    world.deploy()

    def damage(item: dict[str, Any]) -> None:
        forget_marks(item)
        item["metadata"]["annotations"][c.ANNOTATION_SPEC_SNAPSHOT] = snapshot

    change(world, damage)
    world.config = PlanConfig(server_image=NEWER)
    world.settle()
    assert len(world.all("Deployment")) == 1


def test_an_upgrade_that_failed_is_gone_with_its_annotation() -> None:
    world = World()
    world.deploy()
    first = world.status["active"]["revision"]
    world.config = PlanConfig(server_image=NEWER)
    world.annotate(c.ANNOTATION_UPGRADE, first)
    world.reconcile()
    said = json.dumps({"reason": "DeviceUnavailable", "message": "no GPU is visible"})
    world.crashing = {world.status["target"]["revision"]: {"exitCode": 70, "message": said}}
    world.settle()
    assert world.condition("Ready")["reason"] == "RolledBack"
    world.kube.change(c.KIND, world.name, {"metadata": {"annotations": {c.ANNOTATION_UPGRADE: None}}}, "team")
    world.settle()
    assert world.status["target"]["revision"] == first
    assert world.condition("Ready")["status"] == "True"


STATED: dict[str, dict[str, Any]] = {
    "dtype of the merge": {"merge": {"dtype": "float32"}},
    "dtype of the server": {"serving": {"dtype": "float32"}},
    "template": {"serving": {"chatTemplate": "vicuna_v1.1"}},
    "claim": {"storage": {"claimName": "inputs", "size": None}},
    "annotations of pods": {"serving": {"podAnnotations": {"a": "b"}}},
    "labels of pods": {"serving": {"podLabels": {"a": "b"}}},
    "pull policy": {"serving": {"imagePullPolicy": "Always"}},
    "priority": {"serving": {"priorityClassName": "high"}},
    "name": {"serving": {"servedName": "other"}},
}


def without(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the patch that takes the fields away again."""
    gone = {part: dict.fromkeys(fields) for part, fields in spec.items()}
    return gone | ({"storage": {"claimName": None, "size": "10Gi"}} if "storage" in spec else {})


@pytest.mark.parametrize("patch", STATED.values(), ids=STATED)
def test_whatever_is_stated_and_taken_away_leaves_what_was_there_before(patch: dict[str, Any]) -> None:
    world = World()

    def settle() -> None:
        world.settle()
        for job in world.all("Job"):
            if not job.get("status"):
                artifact = (job["metadata"]["labels"][c.LABEL_MERGE_KEY] * 2)[:16]
                world.end_job(message=json.dumps({"reason": "Merged", "artifactID": artifact}))
                world.settle()

    settle()
    before = {item["metadata"]["name"]: item for item in world.all("Deployment")}
    claim = world.find("PersistentVolumeClaim", "demo-weights")
    served = world.status["active"]["revision"]
    world.edit(**patch)
    settle()
    assert world.status["active"]["revision"] != served
    world.edit(**without(patch))
    settle()
    assert world.status["active"]["revision"] == world.status["target"]["revision"] == served
    assert world.condition("Ready")["status"] == "True"
    name = c.deployment("demo", served)
    assert world.find("Deployment", name)["spec"]["template"] == before[name]["spec"]["template"]
    assert world.find("PersistentVolumeClaim", "demo-weights")["spec"] == claim["spec"]


def test_the_owner_of_a_claim_is_taken_away_with_the_policy() -> None:
    world = World()
    world.deploy()
    world.edit(storage={"reclaimPolicy": "Delete"})
    world.settle()
    assert world.find("PersistentVolumeClaim", "demo-weights")["metadata"]["ownerReferences"]
    world.edit(storage={"reclaimPolicy": None})
    world.settle()
    assert not world.find("PersistentVolumeClaim", "demo-weights")["metadata"].get("ownerReferences")
