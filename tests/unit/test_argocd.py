"""Argo CD's health script, run by a real Lua on statuses that plan() really writes."""

import json
from pathlib import Path
from typing import Any

from lupa import LuaRuntime

from support.cluster import model_body
from support.scaled_world import Scaled
from support.world import World

SCRIPT = (Path(__file__).resolve().parents[2] / "examples" / "argocd" / "health.lua").read_text()


def health(body: dict[str, Any]) -> tuple[str, str]:
    lua = LuaRuntime()
    lua.globals().obj = lua.table_from(json.loads(json.dumps(body)), recursive=True)
    result = lua.execute(SCRIPT)
    return result["status"], result["message"]


def test_from_the_first_second_to_healthy() -> None:
    world = World()
    assert health(world.body)[0] == "Progressing"
    world.reconcile()
    assert health(world.body) == ("Progressing", "MergePending: waiting for the merge pod to start")
    world.end_job()
    world.settle()
    assert health(world.body)[0] == "Healthy"


def test_an_edit_nobody_has_seen_is_progressing() -> None:
    world = World()
    world.deploy()
    world.edit(serving={"maxConcurrency": 7})
    assert health(world.body) == ("Progressing", "no operator has seen this generation yet")


def test_what_waits_for_somebody_is_degraded() -> None:
    world = World()
    world.reconcile()
    world.end_job(65, json.dumps({"reason": "NotADelta", "message": "it is a model", "retryable": False}))
    world.reconcile()
    assert health(world.body) == ("Degraded", "NotADelta: it is a model")
    broken = World(model_body(serving={"device": "cuda", "numGpus": 0}))
    broken.reconcile()
    assert health(broken.body)[0] == "Degraded"


def test_a_rollback_is_degraded_though_the_old_revision_serves() -> None:
    world = World()
    world.deploy()
    world.edit(serving={"maxConcurrency": 7})
    world.reconcile()
    world.crashing[world.status["target"]["revision"]] = {"exitCode": 65, "message": "no"}
    world.settle()
    status, message = health(world.body)
    assert status == "Degraded"
    assert message.startswith("RolledBack: ")


def test_suspended() -> None:
    world = World()
    world.deploy()
    world.edit(suspend=True)
    world.settle()
    assert health(world.body)[0] == "Suspended"


def test_a_model_that_is_asleep_is_healthy_and_a_rollback_meanwhile_is_not() -> None:
    world = Scaled().asleep()
    status, message = health(world.body)
    assert (status, message.partition(":")[0]) == ("Healthy", "Asleep")
    world.ask(1)
    world.reconcile()
    assert health(world.body)[0] == "Progressing"
    world.rivals = ("HorizontalPodAutoscaler other",)
    world.reconcile()
    assert health(world.body)[0] == "Degraded"
