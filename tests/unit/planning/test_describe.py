"""`kubectl describe` shows the next step first, says a thing once, and what it says steers no terminal."""

import json
from typing import Any

import pytest

from support import crd_schema
from support.cluster import model_body
from support.describing import describe
from support.world import World
from vicuna_contract.reasons import MERGE_REASONS, SERVE_REASONS
from vicuna_operator.api.conditions import Reason
from vicuna_operator.planning.blocking import BlockingReason
from vicuna_operator.planning.next_step import next_step

SCREEN = 50  # lines, from `Status:` on: what a terminal shows when describe has ended
HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\u009b31m\u202etxt\ud800 ok"


def stored() -> World:
    """Return a world whose model has every default that an API server fills in."""
    world = World()
    spec = crd_schema.admit(world.body)[0]["spec"]
    world.put({**world.body, "spec": spec})
    return world


def shown(world: World) -> list[str]:
    lines = describe(world.body, world.new_events)
    return lines[lines.index("Status:") :]


def waiting_for_a_secret() -> World:
    world = stored()
    world.reconcile()
    world.job_pod(waiting={"reason": "CreateContainerConfigError", "message": 'secret "hf-token" not found'})
    world.reconcile()
    return world


def test_a_newcomers_first_failure_fits_a_screen_with_the_next_step_first() -> None:
    lines = shown(waiting_for_a_secret())
    assert lines[1] == "  Action: create Secret hf-token, or correct its name in the spec"
    assert len(lines) <= SCREEN
    assert lines[3:9][-1] == "    Type: Ready"
    assert sum(line.startswith("    Message: merge: secret") for line in lines) == 2, "Ready and WeightsReady"


def test_one_event_says_that_the_merge_has_begun() -> None:
    world = stored()
    world.reconcile()
    assert [reason for _, reason, _ in world.new_events] == ["MergeStarted"]
    assert world.condition("Ready")["reason"] == "MergePending"


def test_the_step_goes_when_the_model_is_ready() -> None:
    world = waiting_for_a_secret()
    world.end_job()
    world.settle()
    assert "action" not in world.status
    assert len(shown(world)) <= SCREEN + 20


def test_a_container_with_a_long_log_does_not_fill_the_screen() -> None:
    world = stored()
    world.reconcile()
    log = "\n".join(f"line {number}" for number in range(60))
    said = {"reason": "NotADelta", "message": "first\nsecond", "retryable": False, "log": log}
    world.end_job(65, json.dumps(said))
    world.reconcile()
    world.reconcile()
    kept = world.status["lastFailure"]["log"].splitlines()
    assert kept == [f"line {number}" for number in range(48, 60)]
    assert world.condition("Ready")["message"] == world.status["lastFailure"]["message"] == "first | second"
    assert world.status["action"].endswith("`kubectl vicuna retry demo`")


@pytest.mark.parametrize("exit_code", [1, 65])
def test_whatever_a_container_says_steers_no_terminal(exit_code: int) -> None:
    world = World()
    world.reconcile()
    said: dict[str, Any] = {"reason": "NotADelta", "message": HOSTILE, "retryable": False, "log": HOSTILE}
    world.end_job(exit_code, json.dumps(said) if exit_code == 65 else HOSTILE)
    world.reconcile()
    world.reconcile()
    text = json.dumps(world.status, ensure_ascii=False)
    assert json.dumps(text.encode(errors="strict").decode())
    assert not set(text) & set("\x1b\x07\r\u009b\u202e\ud800")
    assert "txt ok" in text
    assert len(world.status["lastFailure"]["log"]) <= 4096


def test_what_is_kept_of_a_log_fits_the_status() -> None:
    world = World()
    world.reconcile()
    world.end_job(1, "\x1b" * 4096)
    world.reconcile()
    world.reconcile()
    crd = crd_schema.schema()["properties"]["status"]
    assert crd_schema.schema_errors(world.status, crd) == []


def test_every_reason_but_ready_has_a_step() -> None:
    steps = {reason: next_step("demo", reason) for reason in {*Reason, *MERGE_REASONS, *SERVE_REASONS, "Unheard"}}
    assert [reason for reason, step in steps.items() if step is None] == [Reason.READY]
    assert [step for step in steps.values() if "{" in (step or "")] == []


def test_a_blocking_reasons_own_step_comes_before_the_tables() -> None:
    assert BlockingReason(Reason.UNSCHEDULABLE, "scheduler: no; add a node").step == "add a node"
    assert next_step("demo", Reason.UNSCHEDULABLE, "add a node") == "add a node"
    assert BlockingReason(Reason.PODS_REFUSED, "pods cannot be created: a; b").step == ""


def test_old_pods_that_end_do_not_hide_the_step() -> None:
    world = World(model_body(serving={"replicas": 2}), gpus=2)
    world.deploy()
    world.stream_seconds = 300
    world.edit(serving={"maxConcurrency": 7, "replicas": 3})
    for _ in range(40):
        world.tick(5)
        world.reconcile()
        world.run_deployments()
        world.make_ready()
    assert world.condition("Ready")["reason"] == "Unschedulable"
    assert world.status["action"] == "free or add nodes that have it, or ask for less"
