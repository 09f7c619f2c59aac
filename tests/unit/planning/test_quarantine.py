"""A damaged copy of an artifact is removed from the model's own claim once no server can have it open."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from support.cluster import model_body
from support.memory_kube import MemoryKube
from support.memory_snapshot import live_snapshot
from support.world import ARTIFACT, World
from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time
from vicuna_operator.planning.pods import PodView

REPLACED = {
    "reason": "Merged",
    "artifactID": ARTIFACT,
    "warnings": [{"reason": "ArtifactReplaced", "message": "was damaged; it was quarantined and is merged again"}],
}


def looked(message: Mapping[str, Any] = REPLACED, **spec: Any) -> World:
    """Return a world in which a look was asked for and has come to its end while a pod serves."""
    world = World(model_body(**spec))
    world.deploy()
    begin(world)
    world.annotate(c.ANNOTATION_VERIFY, "1")
    world.reconcile()
    world.tick(600)
    world.end_job(message=json.dumps(message))
    for _ in range(3):
        world.reconcile()
    return world


def begin(world: World, *, restarts: int = 0, **container: Any) -> None:
    """Let the containers of all servers begin now, or be in this state."""
    for pod in world.server_pods():
        state = container or {"running": {"startedAt": format_time(world.now)}}
        world.set_ready(pod, not container, {"state": state, "restartCount": restarts})


def prunes(world: World) -> list[dict[str, Any]]:
    return [job for job in world.all("Job") if job["metadata"]["labels"][c.LABEL_NAME] == c.NAME_PRUNE]


def removed(world: World) -> list[str]:
    """Return the artifacts whose damaged copies the clean-up that runs removes."""
    found = []
    for job in prunes(world):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["artifacts", "prune", "/models/artifacts", "--keep", ARTIFACT]
        found += [item["value"] for item in container["env"] if item["name"] == c.ASIDE_VARIABLE]
    return found


def end(world: World, kind: str = "Complete") -> None:
    (job,) = prunes(world)
    done = {"type": kind, "status": "True", "lastTransitionTime": format_time(world.now)}
    job["status"] = {"conditions": [done]}
    world.put(job)
    world.reconcile()


def test_while_a_server_runs_that_has_loaded_it_nothing_goes_and_nothing_is_polled() -> None:
    world = looked()
    before = world.writes
    world.tick(3600)
    assert world.reconcile().requeue_after is None
    assert world.writes == before
    assert prunes(world) == []


def test_when_its_servers_have_begun_anew_it_goes_once() -> None:
    world = looked()
    world.tick(120)
    begin(world, restarts=1)
    world.reconcile()
    assert removed(world) == [ARTIFACT]
    assert any("damaged copy" in text for _, reason, text in world.new_events if reason == "PruneStarted")
    end(world)
    assert prunes(world) == []
    before = world.writes
    for _ in range(3):
        world.tick(3600)
        world.reconcile()
    assert prunes(world) == []
    assert world.writes == before


def test_a_server_that_is_told_to_end_still_reads() -> None:
    world = looked()
    (pod,) = world.server_pods()
    world.kube.start_deletion("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])
    world.reconcile()
    assert prunes(world) == []
    world.kube.finish_deletion()
    world.reconcile()
    assert removed(world) == [ARTIFACT]


@pytest.mark.parametrize("state", [{"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": {"exitCode": 65}}])
def test_a_server_that_does_not_run_reads_nothing(state: dict[str, Any]) -> None:
    world = looked()
    begin(world, restarts=3, **state)
    world.reconcile()
    assert removed(world) == [ARTIFACT]


def test_clocks_that_differ_by_seconds_remove_nothing() -> None:
    world = looked()
    world.tick(30)
    begin(world, restarts=1)
    world.reconcile()
    assert prunes(world) == []


def test_a_verification_that_put_nothing_aside_removes_nothing() -> None:
    world = looked({**REPLACED, "warnings": []})
    world.tick(120)
    begin(world, restarts=1)
    world.reconcile()
    assert prunes(world) == []


def test_a_claim_of_the_users_is_not_touched() -> None:
    world = looked(storage={"claimName": "inputs"})
    world.tick(120)
    begin(world, restarts=1)
    world.reconcile()
    assert prunes(world) == []


def test_another_verification_has_it_wait_for_the_servers_in_between() -> None:
    world = looked()
    world.tick(120)
    begin(world, restarts=1)
    world.annotate(c.ANNOTATION_VERIFY, "2")
    world.reconcile()
    world.tick(600)
    world.end_job(message=json.dumps(REPLACED))
    for _ in range(3):
        world.reconcile()
    assert prunes(world) == []
    world.tick(120)
    begin(world, restarts=2)
    world.reconcile()
    assert removed(world) == [ARTIFACT]
    end(world)
    world.tick(3600)
    world.reconcile()
    assert prunes(world) == []


def test_a_verification_that_fails_may_have_put_aside_another_copy() -> None:
    world = looked()
    world.tick(120)
    world.annotate(c.ANNOTATION_VERIFY, "2")
    world.reconcile()
    begin(world, restarts=1)
    world.tick(600)
    world.end_job(69, json.dumps({"reason": "HubUnreachable", "message": "no route"}))
    world.reconcile()
    assert prunes(world) == []
    world.tick(60)
    world.reconcile()
    world.tick(600)
    world.end_job(message=json.dumps({**REPLACED, "warnings": []}))
    for _ in range(3):
        world.reconcile()
    assert prunes(world) == [], "its servers began before the second copy was put aside"
    world.tick(120)
    begin(world, restarts=2)
    world.reconcile()
    assert removed(world) == [ARTIFACT]


def test_one_that_fails_is_tried_again() -> None:
    world = looked()
    world.tick(120)
    begin(world, restarts=1)
    world.reconcile()
    end(world, "Failed")
    world.tick(3601)
    world.reconcile()
    world.reconcile()
    assert removed(world) == [ARTIFACT]


def test_the_servers_of_other_models_on_the_claim_count() -> None:
    world = looked()
    world.neighbour_pods = [PodView.of(world.server_pods()[0])]
    world.tick(120)
    begin(world, restarts=1)
    world.reconcile()
    assert prunes(world) == []
    world.neighbour_pods = []
    world.reconcile()
    assert removed(world) == [ARTIFACT]


def test_which_servers_of_other_models_count() -> None:
    kube = MemoryKube()

    def put(model: str, claim: str, artifact: str = ARTIFACT, namespace: str = "team") -> None:
        labels = {c.LABEL_MODEL: model, c.LABEL_MANAGED_BY: c.MANAGED_BY, c.LABEL_REVISION: "r"}
        labels |= {c.LABEL_ARTIFACT_ID: artifact}
        metadata = {"name": f"{model}-r", "labels": labels, "annotations": {c.ANNOTATION_CLAIM: claim}}
        kube.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {}}, namespace)
        kube.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}, namespace)

    put("demo", "demo-weights")
    put("sharer", "demo-weights")
    put("other-claim", "mine")
    put("other-artifact", "demo-weights", "f" * 16)
    put("elsewhere", "demo-weights", namespace="other")
    found = live_snapshot(kube).servers_of({ARTIFACT}, "demo-weights", besides=("team", "demo"))
    assert [pod.meta.name for pod in found if pod.meta.labels[c.LABEL_MODEL] != "elsewhere"] == ["sharer-r"]
    assert len(found) == 1
    assert live_snapshot(kube).servers_of((), "demo-weights", besides=("team", "demo")) == []
