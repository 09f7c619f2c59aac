"""Rollouts on a real scheduler and kubelet: never below what was promised, back when they fail, by hand when asked."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .cluster import Namespace, meanwhile, model, names, pod_conditions, run, scripted, until

GPUS = 4  # the node's
BROKEN = {"env": [{"name": "VICUNA_ENGINE", "value": "no-such-engine"}]}


def vicuna(team: Namespace, *words: str, check: bool = True) -> str:
    """Run the plugin as a user does."""
    if shutil.which("kubectl-vicuna") is None:
        pytest.fail("kubectl-vicuna is not on PATH: install the project")
    return run("kubectl", "vicuna", *words, "--namespace", team.name, check=check, timeout=300)


class Watch:
    """How many pods were ready over time."""

    def __init__(self) -> None:
        self.least_ready = 99


@contextmanager
def watching(team: Namespace, name: str) -> Iterator[Watch]:
    """Look at a model's pods all the time, in a thread of its own."""
    seen = Watch()

    def look() -> None:
        pods = [pod for pod in team.pods(name) if "deletionTimestamp" not in pod["metadata"]]
        ready = sum(pod_conditions(pod).get("Ready") == "True" for pod in pods)
        seen.least_ready = min(seen.least_ready, ready)

    with meanwhile(look):
        yield seen


def edited(team: Namespace, name: str, **serving: object) -> str:
    """Change the serving part and wait until the new revision serves; return it."""
    old = team.status(name)["active"]["revision"]
    team.patch_spec(name, serving=serving)
    until("the new revision serves", lambda: team.status(name)["active"]["revision"] != old, 120)
    team.wait_ready(name)
    return str(team.status(name)["active"]["revision"])


def on_all_gpus(team: Namespace, name: str) -> None:
    """Run two replicas that hold all of the node's GPUs, one half each."""
    gpus = {"replicas": 2, "numGpus": GPUS // 2, "device": "cpu"}
    rollout = {"strategy": "Auto", "surgeWaitSeconds": 3}
    team.apply(model(name, "weights", serving=scripted(**gpus, rollout=rollout, maxStreamSeconds=5)))
    team.wait_ready(name)


def test_with_no_gpu_to_spare_one_replica_at_a_time_makes_way(team: Namespace, fresh: str) -> None:
    on_all_gpus(team, fresh)
    with watching(team, fresh) as tight:
        edited(team, fresh, maxConcurrency=7)
    assert tight.least_ready >= 1


@pytest.mark.full
def test_with_fewer_gpus_asked_for_it_ends_and_with_spare_ones_it_never_falls_below_n(
    team: Namespace, fresh: str
) -> None:
    on_all_gpus(team, fresh)
    with watching(team, fresh) as roomy:
        edited(team, fresh, numGpus=1)
    assert roomy.least_ready >= 1, "from 2 GPUs each to 1 each: the old pods hold all four at first"
    with watching(team, fresh) as spare:
        edited(team, fresh, maxConcurrency=8)
    assert spare.least_ready >= 2


@pytest.mark.timeout(400)
def test_a_revision_that_cannot_start_goes_back_and_the_plugin_tells(team: Namespace, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving=scripted(maxStreamSeconds=5)))
    team.wait_ready(fresh)
    good = team.status(fresh)["active"]["revision"]
    jobs = len(team.find("jobs", f"vicuna.dev/model={fresh}"))
    with watching(team, fresh) as seen:
        team.patch_spec(fresh, serving=BROKEN)
        condition = team.wait_reason(fresh, "RolledBack", 90)
        bad = team.status(fresh)["target"]["revision"]
        # An old kubelet ends a pod between two starts of its container only when it would start it again.
        until(
            "no pod of the failed revision is left", lambda: team.find("pods", f"vicuna.dev/revision={bad}") == [], 200
        )
    assert seen.least_ready >= 1
    assert "no-such-engine" in condition["message"]
    assert "kubectl vicuna retry" in condition["message"]
    status = team.status(fresh)
    assert status["active"]["revision"] == good
    assert (team.condition(fresh, "Stalled")["status"], team.condition(fresh, "Available")["status"]) == (
        "True",
        "True",
    )

    tree = vicuna(team, "status", fresh)
    assert f"revision {good}: active, 1 of 1 ready" in tree
    assert "no-such-engine" in tree
    rows = json.loads(vicuna(team, "history", fresh, "-o", "json"))
    assert [(row["revision"], row["outcome"]) for row in rows] == [(bad, "RolledBack"), (good, "Succeeded")]
    assert "is stalled: RolledBack" in run_failing(team, "wait", fresh)

    vicuna(team, "rollback", fresh)
    assert "is ready" in vicuna(team, "wait", fresh, "--timeout", "60")
    assert team.status(fresh)["target"]["revision"] == good
    assert len(team.find("jobs", f"vicuna.dev/model={fresh}")) == jobs
    assert "server" in vicuna(team, "logs", fresh, "--tail", "5")


def run_failing(team: Namespace, *words: str) -> str:
    """Run the plugin where it must fail; return what it says."""
    with pytest.raises(AssertionError) as failed:
        vicuna(team, *words)
    return str(failed.value)


def test_a_deployment_scaled_by_hand_is_put_back(team: Namespace, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving=scripted(maxStreamSeconds=5)))
    team.wait_ready(fresh)
    (deployment,) = team.find("deployments", f"vicuna.dev/model={fresh}")
    name = deployment["metadata"]["name"]
    team.kubectl("scale", f"deployment/{name}", "--replicas=3")
    until("it is put back", lambda: (team.get("deployment", name) or {})["spec"]["replicas"] == 1, 10)
    field = f"--field-selector=involvedObject.name={fresh},reason=ScaledByHand"
    until("an Event tells", lambda: json.loads(team.kubectl("get", "events", field, "-o", "json"))["items"], 10)


def test_two_replicas_have_a_budget_where_the_cluster_offers_one(team: Namespace, fresh: str) -> None:
    offered = "policy/v1\n" in run("kubectl", "api-versions") + "\n"
    team.apply(model(fresh, "weights", serving=scripted(replicas=2, maxStreamSeconds=5)))
    team.wait_ready(fresh)
    if offered:
        assert (team.get("poddisruptionbudgets.v1.policy", fresh) or {})["spec"]["maxUnavailable"] == 1
    else:
        assert team.find("poddisruptionbudgets") == []


def test_a_restart_replaces_every_pod_and_what_is_asked_why_answers(team: Namespace, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving=scripted(maxStreamSeconds=5)))
    team.wait_ready(fresh)
    (before,) = names(team.pods(fresh))
    with watching(team, fresh) as seen:
        vicuna(team, "restart", fresh)
        assert f"{fresh} (generation 2) is not ready" in vicuna(team, "why", fresh)
        until("the old pod is gone", lambda: before not in names(team.pods(fresh)), 120)
        team.wait_ready(fresh)
    assert seen.least_ready == 1
    assert f"{fresh} (generation 2) is ready" in vicuna(team, "why", fresh)
