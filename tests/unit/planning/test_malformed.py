"""What somebody wrote by hand into an annotation never ends a pass over the model."""

import copy
from functools import cache

import pytest

from support.amount import first
from support.world import World
from vicuna_contract import names as c

WORDS = ["x", "[1]", "9" * 5000, "", "-1", "²", "[" * 100_000, "null", "[]", "NaN", "0001-01-01T00:00:00+14:00"]
JOB = [c.ANNOTATION_ATTEMPT, c.ANNOTATION_KEPT, c.ANNOTATION_WARNINGS, c.ANNOTATION_ARTIFACT_BYTES, c.ANNOTATION_SERIES]
DEPLOYMENT = [
    c.ANNOTATION_REPLICAS,
    c.ANNOTATION_ROLLOUT,
    c.ANNOTATION_ROLLOUT_STARTED,
    c.ANNOTATION_ROLLOUT_COMPLETED,
    c.ANNOTATION_ROLLOUT_FAILED,
    c.ANNOTATION_SPEC_SNAPSHOT,
    c.ANNOTATION_DEFAULT_IMAGE,
]
MARKS = [("Job", key) for key in JOB] + [("Deployment", key) for key in DEPLOYMENT]
MARKS += [("PersistentVolumeClaim", c.ANNOTATION_ARTIFACTS)]


@cache
def deployed() -> World:
    world = World()
    world.deploy()
    return world


@pytest.mark.parametrize("word", first(WORDS, 3), ids=lambda word: word[:8])
@pytest.mark.parametrize(("kind", "key"), MARKS)
def test_a_malformed_annotation_stops_no_pass(kind: str, key: str, word: str) -> None:
    world = copy.deepcopy(deployed())
    for item in world.all(kind):
        metadata = item["metadata"]
        world.put({**item, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), key: word}}})
    world.reconcile()
    assert world.status["ready"] == "1/1"


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word[:8])
def test_a_malformed_termination_message_stops_no_pass(word: str) -> None:
    world = World()
    world.reconcile()
    world.end_job(65, word)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "Crashed"
