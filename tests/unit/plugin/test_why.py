"""`kubectl vicuna why`: from the status and the Events alone."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.cluster import model_body
from support.world import World
from support.world_kubectl import WorldKubectl
from vicuna_operator.plugin import commands
from vicuna_operator.plugin.cli import main

Capture = pytest.CaptureFixture[str]


class Narrow(WorldKubectl):
    """A user who may read VicunaModels and Events, and nothing else."""

    def read(self, *words: str) -> dict[str, Any]:
        assert words[1] in ("vicunamodels.vicuna.dev", "events")
        return super().read(*words)


def why(world: World, capsys: Capture) -> list[str]:
    assert commands.why(Narrow(world), "demo", as_json=False, now=lambda: world.now) == 0
    return capsys.readouterr().out.splitlines()


def told(world: World, capsys: Capture) -> dict[str, Any]:
    assert main(["why", "demo", "-o", "json"], connect=lambda _: Narrow(world)) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def cramped() -> World:
    """Return a world in which a model has waited for GPUs for ten minutes."""
    world = World(model_body(serving={"numGpus": 8}), gpus=4)
    world.reconcile()
    world.end_job()
    for _ in range(3):
        world.tick(10)
        world.reconcile()
        world.run_deployments()
    world.tick(600)
    world.reconcile()
    return world


def test_it_says_what_is_waited_for_since_when_and_what_would_change_it(capsys: Capture) -> None:
    lines = why(cramped(), capsys)
    assert lines[0] == "demo (generation 1) is not ready: Unschedulable"
    assert lines[1] == "  to change it  free or add nodes that have it, or ask for less"
    assert lines[2].startswith("  waits for     asks for 8 nvidia.com/gpu per replica x 1 replicas = 8; scheduler: ")
    assert lines[2].endswith("Insufficient nvidia.com/gpu.")
    assert lines[3] == "  since         2026-01-01T00:00:20Z (10 min)"
    assert lines[4] == "  then          it goes on by itself"
    assert any("Warning Unschedulable: " in line for line in lines)
    assert len(lines) <= 12


def test_machines_get_the_same(capsys: Capture) -> None:
    answer = told(cramped(), capsys)
    assert {key: answer[key] for key in ("ready", "reason", "byItself", "since")} == {
        "ready": False,
        "reason": "Unschedulable",
        "byItself": True,
        "since": "2026-01-01T00:00:20Z",
    }
    assert answer["events"][0]["reason"] == "Unschedulable"


def test_a_reason_counts_from_its_own_event_on(capsys: Capture) -> None:
    world = World()
    world.reconcile()
    world.tick(100)
    world.job_pod(running={})
    world.reconcile()
    world.tick(50)
    answer = told(world, capsys)
    assert (answer["reason"], answer["since"]) == ("Merging", "2026-01-01T00:01:40Z")


def test_a_merge_tells_how_far_it_is(capsys: Capture) -> None:
    world = World()
    world.reconcile()
    world.job_pod(running={})
    world.progress = {"bytesDone": 40, "bytesTotal": 100, "bytesPerSecond": 0.1}
    world.progress = {"bytesDone": 400, "bytesTotal": 1000, "bytesPerSecond": 1}
    world.reconcile()
    assert "  so far        40 % merged, about 10 min left" in why(world, capsys)


def test_what_is_stalled_does_not_go_on(capsys: Capture) -> None:
    world = World()
    world.reconcile()
    world.end_job(65, json.dumps({"reason": "NotADelta", "message": "it is not\x1b[2J a delta", "retryable": False}))
    world.reconcile()
    text = "\n".join(why(world, capsys))
    assert "nothing changes without you" in text
    assert "`kubectl vicuna retry demo`" in text
    assert "\x1b" not in text


def test_what_serves_meanwhile_is_told(capsys: Capture) -> None:
    world = World()
    world.deploy()
    active = world.status["active"]["revision"]
    world.edit(weights={"base": {"source": "pvc://elsewhere/base"}})
    world.reconcile()
    text = "\n".join(why(world, capsys))
    assert "is not ready: ClaimNotFound" in text
    assert f"  serves        revision {active} with 1 pods" in text


def test_ready_suspended_unseen_and_going(capsys: Capture) -> None:
    world = World()
    lines = why(world, capsys)
    assert lines[0] == "demo (generation 1) is not ready: Unseen"
    assert "app.kubernetes.io/name=vicuna-operator" in lines[1]
    world.deploy()
    lines = why(world, capsys)
    assert lines[0] == "demo (generation 1) is ready"
    assert not any("to change it" in line or "then" in line for line in lines)
    world.edit(suspend=True)
    assert "is not ready: Unseen" in why(world, capsys)[0], "the operator has not seen the edit yet"
    world.settle()
    answer = told(world, capsys)
    assert (answer["reason"], answer["byItself"], answer["change"]) == (
        "Suspended",
        False,
        "set spec.suspend to false",
    )
    held = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/hold"]}
    body = {**world.body, "metadata": {**world.body["metadata"], **held}}

    class Going(Narrow):
        def read(self, *words: str) -> dict[str, Any]:
            return body if words[1] != "events" else super().read(*words)

    assert commands.why(Going(world), "demo", as_json=False, now=lambda: datetime.now(UTC) + timedelta(days=2)) == 0
    text = capsys.readouterr().out
    assert "finalizers of others: example.com/hold" in text
    assert "nothing changes without you" in text


def test_malformed_statuses_and_events_do_not_crash(capsys: Capture) -> None:
    world = World()
    world.deploy()
    condition = {**world.condition("Ready"), "status": "False", "lastTransitionTime": "soon"}
    world.kube.change("VicunaModel", "demo", {"status": {"conditions": [condition], "merge": {"percent": 3}}}, "team")
    world.noted_at = world.noted_at[:1]
    assert "is not ready" in why(world, capsys)[0]
