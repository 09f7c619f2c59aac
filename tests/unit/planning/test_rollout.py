"""How revisions take over from each other, on whatever GPUs there are."""

from collections.abc import Callable

import pytest

from support.amount import first
from support.cluster import model_body
from support.world import World
from vicuna_operator.planning.config import PlanConfig


def serving(**fields: object) -> World:
    world = World(model_body(serving={"replicas": 2, **fields}))
    world.deploy()
    return world


def replicas(world: World) -> dict[str, int]:
    return {
        item["metadata"]["labels"]["vicuna.dev/revision"]: item["spec"]["replicas"] for item in world.all("Deployment")
    }


def watch(world: World, look: Callable[[], None], *, rounds: int = 80) -> None:
    """Run the world, looking at it after every single step."""
    for _ in range(rounds):
        for step in (world.reconcile, world.run_deployments, world.make_ready):
            step()
            look()
        world.tick(1)


def test_a_ready_model_nobody_touches_is_not_written_to() -> None:
    world = serving()
    before = world.writes
    for _ in range(10):
        world.tick(300)
        world.reconcile()
    assert world.writes == before
    assert world.status["ready"] == "2/2"
    assert world.status["gpus"] == 2


def test_scaling_changes_only_replicas() -> None:
    world = serving()
    revision = world.status["active"]["revision"]
    world.edit(serving={"replicas": 1})
    world.settle()
    assert replicas(world) == {revision: 1}
    assert world.status["ready"] == "1/1"
    world.edit(serving={"replicas": 3})
    world.settle()
    assert replicas(world) == {revision: 3}
    assert world.status["active"]["revision"] == revision


@pytest.mark.parametrize("strategy", first(["Auto", "Surge"]))
def test_with_a_spare_gpu_capacity_never_falls(strategy: str) -> None:
    world = serving(rollout={"strategy": strategy})
    old = world.status["active"]["revision"]
    world.gpus = 3
    world.edit(serving={"maxConcurrency": 8})
    ready: list[int] = []
    watch(world, lambda: ready.append(len(world.ready_pods())))
    assert min(ready) >= 2
    new = world.status["active"]["revision"]
    assert new != old
    assert replicas(world) == {old: 0, new: 2}
    assert world.status["phase"] == "Ready"


def test_auto_without_a_spare_gpu_drains_one_at_a_time() -> None:
    world = serving()
    old = world.status["active"]["revision"]
    world.gpus = 2
    world.edit(serving={"maxConcurrency": 8})
    ready: list[int] = []
    watch(world, lambda: ready.append(len(world.ready_pods())))
    assert min(ready) == 1
    assert world.status["active"]["revision"] != old
    assert world.status["phase"] == "Ready"
    assert any(reason == "NoRoomToSurge" for _, reason, _ in world.new_events)


def test_drain_with_one_replica_waits_until_the_old_pod_is_gone() -> None:
    world = World(model_body(serving={"replicas": 1, "rollout": {"strategy": "Drain"}}), gpus=1)
    world.deploy()
    world.edit(serving={"maxConcurrency": 8})

    def never_two() -> None:
        assert world.gpus_in_use() <= 1
        assert not [pod for pod in world.server_pods() if "nodeName" not in pod["spec"]]

    watch(world, never_two)
    assert world.status["phase"] == "Ready"


def test_recreate_stops_all_before_it_starts_any() -> None:
    world = serving(rollout={"strategy": "Recreate"})
    world.edit(serving={"maxConcurrency": 8})

    def one_revision() -> None:
        assert len({pod["metadata"]["labels"]["vicuna.dev/revision"] for pod in world.server_pods()}) <= 1

    watch(world, one_revision)
    assert world.status["phase"] == "Ready"


def test_ready_is_never_said_wrongly_during_a_rollout() -> None:
    world = serving()
    world.edit(serving={"maxConcurrency": 8})

    def honest() -> None:
        if world.condition("Ready")["status"] == "True" and world.status["observedGeneration"] == 2:
            assert world.status["active"]["revision"] == world.status["target"]["revision"]

    world.reconcile()
    assert world.condition("Ready")["status"] == "False"
    assert world.condition("Ready")["reason"] == "RollingOut"
    assert world.condition("Available")["status"] == "True"
    watch(world, honest)


def test_a_broken_new_revision_does_not_take_the_old_one_down() -> None:
    world = serving()
    old = world.status["active"]["revision"]
    world.edit(serving={"maxConcurrency": 8})
    world.reconcile()
    world.silent = {world.status["target"]["revision"]}
    ready: list[int] = []
    watch(world, lambda: ready.append(len(world.ready_pods())))
    assert min(ready) == 2
    assert world.status["active"]["revision"] == old
    assert world.condition("Ready")["status"] == "False"


def test_going_back_uses_the_deployment_that_was_kept() -> None:
    world = serving()
    old = world.status["active"]["revision"]
    world.edit(serving={"maxConcurrency": 8})
    world.settle()
    world.edit(serving={"maxConcurrency": 32})
    world.settle()
    assert world.status["active"]["revision"] == old
    assert len(world.all("Deployment")) == 2
    assert world.status["history"][0]["revision"] == old


def test_only_the_last_revisions_are_kept() -> None:
    world = serving()
    for concurrency in range(1, 6):
        world.edit(serving={"maxConcurrency": concurrency})
        world.settle()
    assert len(world.all("Deployment")) == 1 + 2


def test_while_new_weights_merge_the_old_revision_serves_and_scales() -> None:
    world = serving()
    old = world.status["active"]["revision"]
    world.edit(weights={"base": {"source": "pvc://inputs/other"}})
    world.reconcile()
    world.edit(serving={"replicas": 3})
    for _ in range(3):
        world.reconcile()
        world.run_deployments()
        world.make_ready()
    assert replicas(world) == {old: 3}
    assert world.condition("Available")["status"] == "True"
    assert world.condition("Ready")["status"] == "False"


def test_suspend_removes_pods_and_keeps_weights() -> None:
    world = serving()
    world.edit(suspend=True)
    world.settle()
    assert not world.server_pods()
    assert world.status["phase"] == "Suspended"
    assert world.find("PersistentVolumeClaim", "demo-weights")
    world.edit(suspend=False)
    world.settle()
    assert world.status["phase"] == "Ready"


def test_zero_replicas_is_not_ready() -> None:
    world = serving()
    world.edit(serving={"replicas": 0})
    world.settle()
    assert world.condition("Ready")["status"] == "False"
    assert world.condition("Ready")["reason"] == "ScaledToZero"


def test_a_new_default_image_touches_no_running_revision() -> None:
    world = serving()
    before = replicas(world)
    world.config = PlanConfig(server_image="registry.example/server:2")
    world.settle()
    assert replicas(world) == before
    assert world.status["imageOutdated"] is True
    world.edit(serving={"maxConcurrency": 8})
    world.settle()
    assert world.status["imageOutdated"] is False
    assert world.status["active"]["image"] == "registry.example/server:2"


def test_status_lost_is_found_again() -> None:
    world = serving()
    active = world.status["active"]["revision"]
    before = replicas(world)
    world.lose_status()
    world.settle()
    assert replicas(world) == before
    assert world.status["active"]["revision"] == active
    assert world.status["phase"] == "Ready"


def test_unschedulable_says_what_was_asked_for_and_what_the_scheduler_says() -> None:
    world = World(model_body(serving={"replicas": 2, "numGpus": 8}), gpus=4)
    world.reconcile()
    world.end_job()
    for _ in range(3):
        world.reconcile()
        world.run_deployments()
    ready = world.condition("Ready")
    assert ready["reason"] == "Unschedulable"
    assert "8 nvidia.com/gpu per replica x 2 replicas = 16" in ready["message"]
    assert "0/1 nodes are available: 1 Insufficient nvidia.com/gpu." in ready["message"]


def test_a_crash_is_shown_with_the_words_of_the_server() -> None:
    world = World()
    world.reconcile()
    world.end_job()
    world.reconcile()
    world.run_deployments()
    (pod,) = world.server_pods()
    said = '{"reason": "DeviceUnavailable", "message": "no GPU is visible", "retryable": false}'
    pod["status"]["containerStatuses"] = [
        {
            "name": "server",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 70, "message": said}},
            "restartCount": 1,
        }
    ]
    world.put(pod)
    world.reconcile()
    assert world.condition("Ready")["reason"] == "DeviceUnavailable"
    assert "no GPU is visible" in world.condition("Ready")["message"]
    assert world.status["lastFailure"]["exitCode"] == 70
    assert world.status["phase"] == "Failed"


def test_pods_of_a_namesake_that_is_gone_do_not_count() -> None:
    world = serving()
    for pod in world.all("Pod"):
        pod["metadata"]["labels"]["vicuna.dev/model-uid"] = "uid-of-another"
        world.put(pod)
    world.reconcile()
    assert world.condition("Ready")["status"] == "False"
    assert world.status["readyReplicas"] == 0


def test_a_service_that_was_changed_type_is_applied() -> None:
    world = serving()
    world.edit(serving={"serviceType": "NodePort"})
    world.reconcile()
    assert world.only("Service")["spec"]["type"] == "NodePort"


def test_invalid_spec_changes_nothing_that_runs() -> None:
    world = serving()
    before = replicas(world)
    world.edit(serving={"device": "cuda", "numGpus": 0})
    writes = world.writes
    world.reconcile()
    world.reconcile()
    assert replicas(world) == before
    assert world.writes == writes + 1
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert "spec.serving.numGpus" in ready["message"]
    assert world.condition("Stalled")["status"] == "True"
    assert world.condition("Available")["status"] == "True"


def test_a_failing_image_pull_is_a_warning_and_does_not_flap() -> None:
    world = World()
    world.reconcile()
    world.end_job()
    world.reconcile()
    world.run_deployments()
    (pod,) = world.server_pods()
    words = {"ErrImagePull": "manifest unknown", "ImagePullBackOff": 'Back-off pulling image "server:1"'}
    seen = []
    for reason in ("ImagePullBackOff", "ErrImagePull", "ImagePullBackOff", "ErrImagePull"):
        state = {"waiting": {"reason": reason, "message": words[reason]}}
        pod["status"]["containerStatuses"] = [{"name": "server", "state": state}]
        world.put(pod)
        world.reconcile()
        seen.append(world.condition("Ready")["message"])
    assert ["manifest unknown" in message for message in seen] == [False, True, True, True]
    assert ("Warning", "ImagePullFailed") in {(kind, reason) for kind, reason, _ in world.new_events}
    assert seen[1] == seen[2] == seen[3]
