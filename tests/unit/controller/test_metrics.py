from datetime import UTC, datetime
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from support.cluster import model_body
from support.world import World
from vicuna_operator.controller.metrics import Metrics
from vicuna_operator.controller.snapshot import Snapshot


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


class Watched(World):
    """A world whose status writes are told to metrics."""

    def __init__(self, metrics: Metrics, **spec: Any) -> None:
        super().__init__(model_body(**spec))
        self.metrics = metrics

    def reconcile(self) -> Any:
        old = self.body.get("status") or {}
        made = super().reconcile()
        self.metrics.record_status(old, self.status, self.now)
        return made


def test_merges_and_rollouts_are_counted_once_each_as_they_end() -> None:
    metrics = Metrics(Snapshot())
    world = Watched(metrics)
    world.reconcile()
    world.tick(90)
    world.end_job(69, '{"reason": "SourceUnreachable", "message": "no", "retryable": true}')
    world.reconcile()
    world.tick(30)
    world.reconcile()
    world.progress = {"bytesDone": 10, "bytesTotal": 1000}
    world.job_pod(running={})
    world.reconcile()
    world.end_job()
    world.settle()
    world.edit(serving={"maxConcurrency": 7})
    world.reconcile()
    world.crashing[world.status["target"]["revision"]] = {"exitCode": 65, "message": "no"}
    world.settle()
    seen = samples(metrics)
    assert seen["vicuna_operator_merges_total", ("Failed",)] == 1
    assert seen["vicuna_operator_merges_total", ("Succeeded",)] == 1
    assert seen["vicuna_operator_merge_bytes_total", ()] == 1000
    assert seen["vicuna_operator_merge_seconds_count", ()] == 1
    assert 120 <= seen["vicuna_operator_merge_seconds_sum", ()] <= 130
    assert seen["vicuna_operator_rollouts_total", ("Succeeded",)] == 1
    assert seen["vicuna_operator_rollouts_total", ("RolledBack",)] == 1


def test_models_are_counted_by_phase_and_by_what_stalls_them() -> None:
    stalled = {"conditions": [{"type": "Stalled", "status": "True"}], "phase": "Failed", "reason": "NotADelta"}
    bodies = {
        ("a", "one"): {"phase": "Ready"},
        ("a", "two"): {"phase": "Ready"},
        ("b", "three"): stalled,
        ("b", "new"): {},
    }
    models = {
        key: [{"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status}]
        for key, status in bodies.items()
    }
    seen = samples(Metrics(Snapshot(models=models)))
    assert {key: value for key, value in seen.items() if key[0] == "vicuna_operator_models"} == {
        ("vicuna_operator_models", ("a", "Ready")): 2,
        ("vicuna_operator_models", ("b", "Failed")): 1,
        ("vicuna_operator_models", ("b", "Pending")): 1,
    }
    assert seen["vicuna_operator_models_stalled", ("b", "NotADelta")] == 1


def test_passes_requests_and_who_leads() -> None:
    metrics = Metrics(Snapshot())
    metrics.record_pass(0.02, failed=False)
    metrics.record_pass(0.02, failed=True)
    metrics.record_request("GET", 200, 0.01)
    metrics.record_request("GET", None, 10)
    metrics.leading.set(1)
    seen = samples(metrics)
    assert seen["vicuna_operator_reconciles_total", ("success",)] == 1
    assert seen["vicuna_operator_reconciles_total", ("error",)] == 1
    assert seen["vicuna_operator_api_requests_total", ("200", "GET")] == 1
    assert seen["vicuna_operator_api_requests_total", ("none", "GET")] == 1
    assert seen["vicuna_operator_leading", ()] == 1


def test_a_status_that_says_the_same_counts_nothing() -> None:
    metrics = Metrics(Snapshot())
    world = World()
    world.deploy()
    before = metrics.render()
    metrics.record_status(world.status, world.status, datetime(2026, 1, 1, tzinfo=UTC))
    assert [line for line in metrics.render().splitlines() if b"_created" not in line] == [
        line for line in before.splitlines() if b"_created" not in line
    ]


def test_models_with_autoscaling_tell_their_demand_and_how_many_replicas_it_wants() -> None:
    bodies = {("a", "one"): {"autoscaling": {"desiredReplicas": 3}}, ("a", "plain"): {}}
    models = {
        key: [{"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status}]
        for key, status in bodies.items()
    }
    metrics = Metrics(Snapshot(models=models))
    metrics.set_demands(lambda: {("a", "one"): 20, ("a", "gone"): 1})
    seen = samples(metrics)
    assert {key: value for key, value in seen.items() if key[0].endswith(("desired_replicas", "demand_requests"))} == {
        ("vicuna_operator_desired_replicas", ("one", "a")): 3,
        ("vicuna_operator_demand_requests", ("one", "a")): 20,
    }
