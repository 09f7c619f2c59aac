"""Whatever form objects have, a pass over the model comes to its end, and the API server takes what it tells.

The objects of a few worlds are mangled at random places with values that are absurd: wrong types, numbers beyond any
bound, times at the ends of the calendar, texts that are not JSON, nested too deep, or full of control characters.
"""

import copy
import json
import random
import re
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from support.amount import first
from support.cluster import model_body
from support.crd_schema import schema
from support.memory_kube import Body
from support.world import CONFIG, MERGED, World
from vicuna_contract import names as c
from vicuna_operator.api.model import parse_model
from vicuna_operator.controller.status import status_patch
from vicuna_operator.planning.actions import Plan
from vicuna_operator.planning.observed import EventView

SEEDS = 25
DEEP: list[Any] = []
for _ in range(400):
    DEEP = [DEEP]
ABSURD: list[Any] = [
    *(None, True, "", "x", -1, 0, 7, 2**31, 2**63, 2**200, 1e308, float("inf"), float("nan")),
    *([], {}, [None], [[]], ["x"], [{}], {"x": None}, {"reason": {}}, [{"type": {}}], DEEP, {"x": DEEP}),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-13-01", "2026-01-01T00:00:00"),
    *("9" * 5000, "²", "-0", "1e999", "NaN", "[" * 100_000, '{"a":' * 50_000, "null", "[]", "{}", '"x"'),
    *("\x1b]0;x\x07\x1b[31mred\r\x00\x9b2J", "\ud800", "‮x", '{"reason": "\\ud800\\u001b[31m"}'),
    *('{"reason": 5}', '{"reason": "Merged", "artifactID": "../../x"}', '{"reason": "Merged", "bytes": 1e999}'),
    *('{"attempt": "x", "reason": "y y"}', '{"attempt": [], "reason": {"a": []}, "at": "x"}'),
]
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
FORMATS = jsonschema.FormatChecker(())
FORMATS.checks("date-time")(lambda value: bool(RFC_3339.fullmatch(value)))
SHAPE = jsonschema.Draft202012Validator(schema()["properties"]["status"], format_checker=FORMATS)
KINDS = ("Job", "Deployment", "Pod", "PersistentVolumeClaim", "Service", "PodDisruptionBudget", "NetworkPolicy")


class Mangled(World):
    """Sees every object of its kinds with something wrong in it."""

    dice = random.Random(0)
    damage = 0  # places of each object

    def all(self, kind: str) -> list[Body]:
        found = super().all(kind)
        return [self.mangled(item) for item in found] if self.damage and kind in KINDS else found

    def mangled(self, body: Any) -> Any:
        body = copy.deepcopy(body)
        for _ in range(self.dice.randint(0, self.damage)):
            mangle(body, self.dice)
        return body


def mangle(body: Any, dice: random.Random) -> None:
    """Take something away at a random place, or put something absurd there."""
    place = body
    while place:  # nothing may be left of a small one
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = dice.choice(keys)
        inner = place[key]
        if not (isinstance(inner, dict | list) and inner) or dice.random() < 0.15:
            break
        place = inner
    else:
        return
    if dice.random() < 0.15:
        del place[key]
    else:
        place[key] = copy.deepcopy(dice.choice(ABSURD))  # the next damage may be inside of it


def starting() -> Mangled:
    return Mangled(model_body(serving={"replicas": 2}), config=replace(CONFIG, network_peers=[]))


def merging() -> Mangled:
    world = starting()
    world.reconcile()
    world.job_pod(running={"startedAt": "2026-01-01T00:00:00Z"})
    world.progress = {"event": "progress", "bytesDone": 1, "bytesTotal": 10, "bytesPerSecond": 1}
    return world


def merge_failed() -> Mangled:
    world = starting()
    world.reconcile()
    world.end_job(69, json.dumps({"reason": "SourceUnreachable", "message": "no route", "retryable": True}))
    world.reconcile()
    return world


def serving() -> Mangled:
    world = starting()
    world.deploy()
    return world


def crashing() -> Mangled:
    world = serving()
    world.edit(serving={"maxConcurrency": 3})
    world.reconcile()
    fresh = str(world.status["target"]["revision"])
    world.crashing[fresh] = {"exitCode": 1, "reason": "Error", "message": "ouch", "finishedAt": "2026-01-01T00:00:00Z"}
    for _ in range(3):
        world.run_deployments()
        world.make_ready()
        world.reconcile()
    return world


def rolled_back() -> Mangled:
    world = crashing()
    world.settle()
    assert world.condition("Ready")["reason"] == "RolledBack"
    return world


def clearing_up() -> Mangled:
    world = serving()
    world.edit(weights={"base": {"source": "pvc://inputs/base"}, "delta": {"source": "pvc://inputs/other"}})
    world.reconcile()
    world.end_job(0, MERGED.replace("0123", "fedc"))
    world.settle()
    for item in world.all("Deployment")[:1]:
        world.remove(item)
    world.tick(3600)
    world.reconcile()
    jobs = [job for job in world.all("Job") if c.ANNOTATION_KEPT in job["metadata"]["annotations"]]
    assert jobs, "a clean-up runs"
    return world


@pytest.mark.parametrize(
    "make",
    first([serving, merging, starting, merge_failed, crashing, rolled_back, clearing_up], 2),
    ids=lambda one: one.__name__,
)
def test_no_form_of_an_object_stops_a_pass(make: Any) -> None:
    world = make()
    pods = world.all("Pod")
    for seed in range(SEEDS):
        world.dice, world.damage = random.Random(seed), 4
        event = {"type": "Warning", "reason": "FailedMount", "message": "x", "lastTimestamp": "2026-01-01T00:00:00Z"}
        world.events = {pod["metadata"]["uid"]: [EventView.of(world.mangled(event))] for pod in pods}
        if world.progress:
            world.progress = world.mangled(world.progress)
        world.tick(world.dice.choice([0, 1, 60, 4000]))
        told(world._plan(), world.status)


@pytest.mark.parametrize("make", first([serving, rolled_back]), ids=lambda one: one.__name__)
def test_no_form_of_the_status_stops_a_pass(make: Any) -> None:
    world = make()
    body = world.body
    for seed in range(SEEDS * 3):
        world.dice, world.damage = random.Random(seed), 4
        model = parse_model({**body, "status": world.mangled(body["status"])})
        world.damage = 0
        assert world.plan_for(model).status is not None


def told(plan: Plan, before: Body) -> None:
    """The status is one that the CRD takes, and whatever is sent is JSON that can be shown on a terminal."""
    assert plan.status is not None
    _ = status_patch(before, plan.status)
    status = json.loads(json.dumps(plan.status), parse_constant=pytest.fail)
    assert not [error.message for error in SHAPE.iter_errors(status)]
    assert all(-(2**63) <= number < 2**63 for number in integers(status))
    for text in [str(status), *(note.message for note in plan.new_events), *(str(action) for action in plan.actions)]:
        assert not CONTROLS.search(text)


def integers(value: Any) -> list[int]:
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [number for item in items for number in integers(item)]
    return [value] if isinstance(value, int) else []
