"""A new operator takes over what an older one made: it starts no Job and restarts no pod.

`upgrades/<version>.json` holds a model and its children as that version left them, one file for each release, never
rewritten. `python tests/unit/planning/test_upgrade.py VERSION` makes the one of the present version.
"""

import json
import sys
from pathlib import Path

import pytest

from support.cluster import model_body
from support.world import World
from vicuna_contract import names as c
from vicuna_operator.planning.actions import Apply, Create, Patch
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.resources.claim import KEPT

FOLDER = Path(__file__).parent / "upgrades"
STORED = sorted(FOLDER.glob("*.json"))


def lived() -> World:
    """Return a world with two revisions behind it, and a serving part that says a good deal."""
    serving = {"replicas": 2, "numGpus": 2, "maxGpuMemory": "13Gi", "contextLength": 2048, "podLabels": {"team": "a"}}
    world = World(model_body(serving=serving, merge={"dtype": "bfloat16", "retries": 1}))
    world.deploy()
    world.edit(serving={"maxConcurrency": 7})
    world.settle()
    return world


def store(version: str) -> None:
    world = lived()
    children = [body for body in world.kube.objects() if body["kind"] != world.body["kind"]]
    objects = [{"key": [body["kind"], body["metadata"]["name"]], "body": body} for body in children]
    text = json.dumps({"model": world.body, "now": world.now.isoformat(), "objects": objects}, indent=1, sort_keys=True)
    (FOLDER / f"{version}.json").write_text(text + "\n")


def restored(file: Path) -> World:
    stored = json.loads(file.read_text())
    world = World(stored["model"])
    world.now = type(world.now).fromisoformat(stored["now"])
    for item in stored["objects"]:
        world.kube.restore({"apiVersion": "v1", **item["body"]}, "team")  # 0.1.0 has no version on pods and claims
    return world


@pytest.mark.parametrize("file", STORED, ids=[file.stem for file in STORED])
@pytest.mark.parametrize("image", ["registry.example/server:1", "registry.example/server:2"])
def test_taking_over_starts_no_job_and_restarts_no_pod(file: Path, image: str) -> None:
    world = restored(file)
    world.config = PlanConfig(server_image=image)
    made = world.reconcile()
    patches = [a for a in made.actions if isinstance(a, Patch)]
    for patch in patches:  # what is noted on an object, which changes nothing of what it does
        assert list(patch.body) == ["metadata"]
        noted = patch.body["metadata"].get("annotations", {})
        assert set(noted) <= {c.ANNOTATION_TEMPLATE, c.ANNOTATION_CLAIM_UID, *KEPT}
        assert patch.body["metadata"].get("labels", {}) in ({}, {c.LABEL_INSTANCE: None})
        assert "ownerReferences" not in patch.body["metadata"]
    kinds = [a.body["kind"] if isinstance(a, Create | Apply) else a.ref.kind for a in made.actions if a not in patches]
    assert not {"Job", "Deployment", "PersistentVolumeClaim"} & set(kinds), made.actions
    assert world.condition("Ready")["status"] == "True"
    assert world.status["imageOutdated"] is (image != "registry.example/server:1")
    again = world.reconcile()
    assert again.actions == []


def test_there_is_something_to_take_over() -> None:
    assert STORED


if __name__ == "__main__":
    store(sys.argv[1])
