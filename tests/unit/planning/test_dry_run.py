"""What the API server would refuse of Deployment and Job is told before anything is merged."""

from typing import Any

import pytest

from support.cluster import model_body
from support.world import CONFIG, World
from vicuna_operator.errors import InvalidError
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.dry_run import shape

WRONG = 'Deployment.apps "demo" is invalid: spec.template.labels: Invalid value: "b c"'
PODS = (
    'would violate PodSecurity "restricted:latest": seLinuxOptions (pod set forbidden securityContext.seLinuxOptions)'
)


def refusing(kind: str = "Deployment", *, world: World | None = None, times: int = 1) -> World:
    world = world or World(model_body(serving={"podLabels": {"a": "b c"}}))
    world.kube.fail(InvalidError(WRONG, 422), verb="dry-run", kind=kind, times=times)
    return world


def tried(world: World) -> list[str]:
    return [call.kind for call in world.kube.calls if call.verb == "dry-run"]


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_what_would_be_refused_is_told_before_anything_is_made(kind: str) -> None:
    world = refusing(kind)
    world.reconcile()
    assert not world.all("Job")
    assert not world.all("PersistentVolumeClaim")[1:], "only the claim of the sources is there"
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert WRONG in ready["message"]
    assert "roles" not in ready["message"]
    assert world.condition("Stalled")["status"] == "True"


def test_it_is_asked_once_per_generation_image_and_retry() -> None:
    world = refusing()
    for _ in range(3):
        world.reconcile()
    assert tried(world) == ["Deployment", "Job"]
    world.annotate("vicuna.dev/retry", "1")
    world.reconcile()
    assert tried(world) == ["Deployment", "Job"] * 2
    assert len(world.all("Job")) == 1
    world.edit(serving={"podLabels": {"a": "b"}})
    world.reconcile()
    world.reconcile()
    assert tried(world) == ["Deployment", "Job"] * 3
    world.config = PlanConfig(server_image="registry.example/server:2")
    world.reconcile()
    assert tried(world) == ["Deployment", "Job"] * 4


def test_a_dry_run_is_of_the_objects_that_will_be_made() -> None:
    world = World(model_body(serving={"podLabels": {"team": "a"}}))
    world.reconcile()
    deployment, job = (call.body for call in world.kube.calls if call.verb == "dry-run")
    assert deployment is not None
    assert job is not None
    made = world.only("Job")
    assert job["spec"] == made["spec"]
    world.end_job()
    world.reconcile()
    real = world.only("Deployment")
    assert (
        deployment["spec"]["template"]["metadata"]["labels"].keys()
        == real["spec"]["template"]["metadata"]["labels"].keys()
    )
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == CONFIG.server_image


def test_no_dry_run_once_the_artifact_is_there_nor_while_suspended() -> None:
    world = World(model_body(suspend=True))
    world.reconcile()
    assert not tried(world)
    world.edit(suspend=False)
    world.deploy()
    before = len(tried(world))
    world.edit(serving={"maxConcurrency": 7})
    world.settle()
    assert len(tried(world)) == before == 2


def test_what_serves_goes_on_and_a_merge_that_runs_is_left_alone() -> None:
    world = World()
    world.deploy()
    world.edit(weights={"base": {"source": "pvc://inputs/other"}})
    world.reconcile()
    world.job_pod(running={})
    running = world.only("Job")
    refusing(world=world)
    world.edit(serving={"podLabels": {"a": "b c"}})
    world.reconcile()
    assert world.condition("Ready")["reason"] == "InvalidSpec"
    assert world.condition("Available")["status"] == "True"
    assert len(world.ready_pods()) == 1
    assert world.only("Job") == running
    world.edit(serving={"podLabels": {"a": "b"}})
    world.reconcile()
    assert world.condition("Ready")["reason"] == "Merging"


def test_pod_security_is_told_once_and_stops_nothing() -> None:
    world = World()
    world.kube.warnings = {"Deployment": [PODS, "something else"], "Job": [PODS]}
    for _ in range(3):
        world.reconcile()
    assert len(world.all("Job")) == 1
    assert [
        (kind, text.count("would violate")) for kind, reason, text in world.new_events if reason == "PodSecurityWarning"
    ] == [("Warning", 1)]
    ready: dict[str, Any] = world.condition("Ready")
    assert ready["reason"] == "MergePending"
    assert PODS in ready["message"]
    assert "something else" not in ready["message"]


def test_the_spec_is_at_fault_not_a_webhook_that_answers_422() -> None:
    world = World()
    world.kube.fail(InvalidError('admission webhook "x" denied the request: no', 422), verb="dry-run")
    world.reconcile()
    assert world.condition("Ready")["reason"] == "AdmissionRefused"


def shapes(name: str = "demo", **fields: Any) -> list[str]:
    world = World(model_body(name, **fields))
    world.reconcile()
    return [shape(call.body) for call in world.kube.calls if call.verb == "dry-run" and call.body is not None]


def test_models_that_differ_in_names_and_sources_have_one_shape() -> None:
    storage: dict[str, Any] = {"storage": {"size": "10Gi"}}  # a volume of one node: its pods are bound to one another
    spread = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]
    serving: dict[str, Any] = {"serving": {"topologySpreadConstraints": spread, "podLabels": {"team": "a"}}}
    sources = {part: {"source": f"pvc://inputs/other-{part}"} for part in ("base", "delta")}
    other: dict[str, Any] = {"weights": sources}
    assert shapes(**storage, **serving) == shapes("other", **storage, **serving, **other)


@pytest.mark.parametrize(
    "fields",
    [
        {"serving": {"podLabels": {"a": "b c"}}},
        {"serving": {"podLabels": {"a": "demo"}}},
        {"serving": {"nodeSelector": {"vicuna.dev/pool": "b c"}}},
        {"serving": {"env": [{"name": "A", "value": "1"}]}},
        {"serving": {"serviceAccountName": "a..b"}},
        {"serving": {"numGpus": 2}},
        {"serving": {"replicas": 2}},
        {"serving": {"image": "other:1"}},
        {"merge": {"resources": {"limits": {"memory": "-1"}}}},
        {"merge": {"nodeSelector": {"a": "b c"}}},
    ],
    ids=str,
)
def test_whatever_the_api_server_could_object_to_is_in_the_shape(fields: dict[str, Any]) -> None:
    assert shapes(**fields) != shapes()
