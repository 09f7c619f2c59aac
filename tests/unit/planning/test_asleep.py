"""A model with autoscaling through its life: brought up, asleep, woken, more and fewer pods, rollouts, failures."""

import pytest

from support.cluster import model_body
from support.scaled_world import SETTINGS, SHARED, Scaled
from support.world import World

ASLEEP = ("Asleep", "False/Asleep", "True/Asleep", "False/Idle")
READY = ("Ready", "True/Ready", "True/Ready", "False/Idle")


def test_a_new_model_is_brought_up_once_and_sleeps_when_nobody_asks() -> None:
    world = Scaled()
    world.deploy()
    assert world.summary() == READY
    assert (world.desired, len(world.ready_pods())) == (1, 1)
    assert world.wait() == pytest.approx(600, abs=5)
    world.settle()
    assert world.summary() == ASLEEP
    assert (world.desired, world.status["ready"], world.server_pods()) == (0, "0/0", [])
    assert world.status["action"].startswith("a request through a gateway")
    assert world.wait(at_most=10**6) == 10**6, "nothing is looked at while it sleeps"


def test_a_model_that_is_not_to_be_tried_sleeps_from_its_birth_and_is_woken() -> None:
    world = Scaled(rollout={"tryAsleep": False})
    world.deploy()
    assert world.summary() == ASLEEP
    assert not world.server_pods()
    world.ask(1)
    world.settle()
    assert world.summary() == READY


def test_a_request_wakes_it_and_the_status_says_that_it_starts() -> None:
    world = Scaled().asleep()
    world.ask(20)
    world.reconcile()
    assert world.summary() == ("Deploying", "False/Starting", "False/NoReadyPods", "False/Idle")
    assert world.status["autoscaling"] == {
        "desiredReplicas": 3,
        "demand": 20,
        "reason": "Demand",
        "message": "20 requests under way or held, 8 for each replica",
    }
    world.settle()
    assert (world.summary(), len(world.ready_pods())) == (READY, 3)
    assert len([event for event in world.new_events if event[1] == "RevisionCreated"]) == 1, "no rollout"


def test_more_and_fewer_pods_as_the_demand_goes() -> None:
    world = Scaled().asleep()
    world.ask(32)
    world.settle()
    assert len(world.ready_pods()) == 4
    world.ask(3)
    world.tick(299)
    world.reconcile()
    assert world.desired == 4
    world.tick(2)
    world.settle()
    assert (world.desired, len(world.ready_pods()), world.status["ready"]) == (1, 1, "1/1")


def test_a_demand_that_comes_and_goes_writes_nothing() -> None:
    world = Scaled().asleep()
    world.ask(20)
    world.settle()
    before = world.writes
    for requests in (17, 24, 3, 0, 18, 1, 20):
        world.ask(requests)
        world.tick(5)
        world.reconcile()
    assert world.writes == before


def test_a_new_revision_is_tried_once_while_the_model_sleeps() -> None:
    world = Scaled().asleep()
    before = world.status["active"]["revision"]
    world.edit(serving={"maxConcurrency": 7})
    world.settle()
    assert world.summary() == READY
    assert world.status["active"]["revision"] != before
    assert len(world.ready_pods()) == 1
    world.tick(595)
    world.reconcile()
    assert world.desired == 1
    world.tick(30)
    world.settle()
    assert world.summary() == ASLEEP


def test_a_new_revision_is_left_to_the_next_request_where_it_is_not_to_be_tried() -> None:
    world = Scaled(rollout={"tryAsleep": False})
    world.deploy()
    world.ask(1)
    world.settle()
    world.sleep()
    before = world.status["active"]["revision"]
    world.edit(serving={"maxConcurrency": 7})
    world.settle()
    assert world.summary() == ASLEEP
    world.ask(1)
    world.settle()
    assert world.summary() == READY
    assert world.status["active"]["revision"] != before


def test_a_revision_that_fails_while_asleep_is_rolled_back_and_the_model_sleeps_with_that_said() -> None:
    world = Scaled().asleep()
    before = world.status["active"]["revision"]
    world.edit(serving={"maxConcurrency": 7})
    world.reconcile()
    world.crashing[world.status["target"]["revision"]] = {"exitCode": 65, "message": "no"}
    world.settle()
    assert world.condition("Ready")["reason"] == "RolledBack"
    world.tick(601)
    world.settle()
    assert not world.server_pods()
    assert world.summary() == ("Degraded", "False/RolledBack", "True/Asleep", "True/RolledBack")
    writes = world.writes
    world.tick(5000)
    world.settle()
    assert world.writes == writes, "it is not tried again"
    world.ask(9)
    world.settle()
    assert {pod["metadata"]["labels"]["vicuna.dev/revision"] for pod in world.ready_pods()} == {before}
    assert len(world.ready_pods()) == 2


def test_suspended_there_are_no_pods_whatever_the_demand_and_afterwards_it_sleeps() -> None:
    world = Scaled().asleep()
    world.edit(suspend=True)
    world.ask(50)
    world.settle()
    assert (world.summary()[0], world.server_pods()) == ("Suspended", [])
    assert "autoscaling" not in world.status
    world.ask(0)
    world.edit(suspend=False)
    world.settle()
    assert world.summary() == ASLEEP


def test_demand_that_cannot_be_read_keeps_pods_and_a_sleeping_model_says_that_nothing_wakes_it() -> None:
    world = Scaled()
    world.deploy()
    world.readable = False
    world.tick(10_000)
    world.settle()
    assert (world.summary(), world.desired) == (READY, 1)
    assert world.status["autoscaling"]["reason"] == "DemandUnknown"
    world.readable, world.since = True, world.now
    world.sleep()
    assert world.summary() == ASLEEP
    world.readable = False
    world.reconcile()
    assert world.summary() == ("Failed", "False/DemandUnknown", "False/NoReadyPods", "True/DemandUnknown")
    assert "vicunausages" in world.status["action"]
    world.readable, world.since = True, world.now
    world.reconcile()
    assert world.summary() == ASLEEP


def test_two_scalers_are_a_fault_and_the_number_stays() -> None:
    world = Scaled().asleep()
    world.ask(20)
    world.settle()
    world.rivals = ("HorizontalPodAutoscaler other",)
    world.ask(32)
    world.settle()
    assert world.summary() == ("Degraded", "False/TwoScalers", "True/Ready", "True/TwoScalers")
    assert (world.desired, len(world.ready_pods())) == (3, 3)
    assert "HorizontalPodAutoscaler other" in world.condition("Stalled")["message"]
    world.rivals = ()
    world.settle()
    assert (world.summary(), world.desired) == (READY, 4)


def test_scarce_gpus_are_told_as_ever() -> None:
    world = Scaled(gpus=2)
    world.deploy()
    world.ask(32)
    world.settle()
    assert len(world.ready_pods()) == 2
    assert world.condition("Ready")["reason"] == "Unschedulable"
    world.ask(3)
    world.tick(301)
    world.settle()
    assert (world.summary(), len(world.server_pods())) == (READY, 1)


def test_a_model_that_had_replicas_goes_on_with_them() -> None:
    world = World(model_body(serving={"replicas": 3}, storage=SHARED))
    world.deploy()
    scaled = Scaled()
    scaled.kube, scaled.since = world.kube, world.now
    scaled.now = world.now
    scaled.edit(serving={"autoscaling": SETTINGS})
    scaled.settle()
    assert (scaled.desired, len(scaled.ready_pods())) == (3, 3)
    scaled.tick(301)
    scaled.settle()
    assert scaled.desired == 1


def test_the_budget_does_not_come_and_go_with_the_pods() -> None:
    world = Scaled().asleep()
    budget = world.only("PodDisruptionBudget")
    world.ask(32)
    world.settle()
    assert world.only("PodDisruptionBudget") == budget


def test_new_weights_while_asleep_are_merged_and_tried() -> None:
    world = Scaled().asleep()
    world.edit(weights={"delta": {"source": "pvc://inputs/other"}})
    world.reconcile()
    assert world.condition("Ready")["reason"] == "MergePending"
    assert world.condition("Available")["status"] == "True"
    world.end_job(message='{"reason": "Merged", "artifactID": "fedcba9876543210"}')
    world.settle()
    assert world.summary() == READY
    assert world.status["active"]["artifactID"] == "fedcba9876543210"


def test_a_lost_status_wakes_nobody() -> None:
    world = Scaled().asleep()
    world.lose_status()
    world.settle()
    assert world.summary() == ASLEEP
