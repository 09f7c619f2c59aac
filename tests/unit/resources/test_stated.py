"""Labels, annotations and pod fields that users state, on every kind of child; what is the operator's own stays."""

from typing import Any

import kubernetes_validate
import pytest

from support.amount import first
from support.cluster import model_body
from support.world import World
from vicuna_contract import names as c
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.resources.claim import storage_claim
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.deployment import revision_deployment
from vicuna_operator.resources.identity import revision
from vicuna_operator.resources.merge_job import merge_job
from vicuna_operator.resources.prune_job import prune_job
from vicuna_operator.resources.service import model_service

Body = dict[str, Any]
STOLEN = {"app.kubernetes.io/name": "mine", "vicuna.dev/model": "mine", "vicuna.dev/artifact-id": "f" * 16}
FORGED = {"vicuna.dev/rollout-completed": "2026-01-01T00:00:00Z", "vicuna.dev/claim": "theirs"}


def model(**spec: Any) -> Model:
    return parse_model(model_body(**spec))


def merge(subject: Model) -> Body:
    words = {"image": "i", "pull_policy": "Always", "shared_volume": False, "capacity": ""}
    return merge_job(subject, attempt=0, series="s", **words)  # type: ignore[arg-type]


def clean_up(subject: Model) -> Body:
    return prune_job(subject, keep={"a" * 16}, image="i", pull_policy="Always", shared_volume=False)


def deployment(subject: Model) -> Body:
    words = {"revision": "r", "artifact_id": "a" * 16, "image": "i", "pull_policy": "Always"}
    return revision_deployment(subject, **words, replicas=1, shared_volume=False, annotations={})  # type: ignore[arg-type]


def metadata(body: Body, *, of_pods: bool = False) -> Body:
    found: Body = body["spec"]["template"]["metadata"] if of_pods else body["metadata"]
    return found


PLACES = {
    "merge.jobLabels": (merge, False),
    "merge.jobAnnotations": (merge, False),
    "merge.podLabels": (merge, True),
    "merge.podAnnotations": (merge, True),
    "serving.deploymentLabels": (deployment, False),
    "serving.deploymentAnnotations": (deployment, False),
    "serving.serviceLabels": (model_service, False),
    "serving.serviceAnnotations": (model_service, False),
    "storage.labels": (storage_claim, False),
    "storage.annotations": (storage_claim, False),
}


@pytest.mark.parametrize("field", PLACES)
def test_what_is_stated_stands_beside_our_own(field: str) -> None:
    part, name = field.split(".")
    kind = "labels" if name.lower().endswith("labels") else "annotations"
    render, of_pods = PLACES[field]
    beside = {"size": "1Gi"} if part == "storage" else {}
    stated = {"example.com/team": "ml", **(STOLEN if kind == "labels" else FORGED)}
    before = metadata(render(model()), of_pods=of_pods).get(kind, {})
    after = metadata(render(model(**{part: {**beside, name: stated}})), of_pods=of_pods)[kind]
    changing = {c.ANNOTATION_APPLIED_HASH, c.ANNOTATION_SPEC_SNAPSHOT}
    assert after.pop("example.com/team") == "ml"
    assert {key: value for key, value in after.items() if key not in changing} == {
        key: value for key, value in before.items() if key not in changing
    }


@pytest.mark.parametrize("render", [merge, clean_up])
def test_merges_and_clean_ups_go_where_the_user_wants_them(render: Any) -> None:
    stated = {"schedulerName": "volcano", "priorityClassName": "low", "hostUsers": False}
    pod = render(model(merge=stated, serving={"priorityClassName": "high"}))["spec"]["template"]["spec"]
    assert (pod["schedulerName"], pod["priorityClassName"], pod["hostUsers"]) == ("volcano", "low", False)
    plain = render(model(serving={"priorityClassName": "high"}))["spec"]["template"]["spec"]
    assert plain["priorityClassName"] == "high"
    assert not {"schedulerName", "hostUsers"} & plain.keys()


def test_servers_get_devices_by_claim_and_another_scheduler() -> None:
    claims = [{"name": "gpu", "resourceClaimTemplateName": "h100"}]
    resources = {"claims": [{"name": "gpu"}], "limits": {"memory": "1Gi"}}
    serving = {"resourceClaims": claims, "resources": resources, "numGpus": 2, "schedulerName": "v", "hostUsers": True}
    pod = deployment(model(serving=serving))["spec"]["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    assert arguments[arguments.index("--num-gpus") + 1] == "2"
    assert pod["resourceClaims"] == claims
    assert pod["containers"][0]["resources"] == resources
    assert (pod["schedulerName"], pod["hostUsers"]) == ("v", True)
    assert not {"resourceClaims", "schedulerName", "hostUsers"} & deployment(model())["spec"]["template"]["spec"].keys()


def test_what_is_said_of_the_service_makes_no_revision_and_the_rest_does() -> None:
    def named(**serving: Any) -> str:
        return revision(spec_of(model(serving=serving)), artifact_id="a" * 16, image="i")

    plain = named()
    assert named(serviceLabels={"a": "b"}, serviceAnnotations={"a": "b"}) == plain
    for changed in ({"deploymentLabels": {"a": "b"}}, {"schedulerName": "v"}, {"hostUsers": False}):
        assert named(**changed) != plain


def test_edits_reach_the_service_and_the_claim_that_are_there() -> None:
    world = World()
    world.deploy()
    pods = {pod["metadata"]["uid"] for pod in world.server_pods()}
    world.edit(
        serving={"serviceAnnotations": {"lb": "internal"}, "serviceLabels": {"a": "b"}},
        storage={"labels": {"cost": "ml"}, "annotations": {"backup": "yes"}},
    )
    world.settle()
    service, claim = world.only("Service"), world.find("PersistentVolumeClaim", "demo-weights")
    assert service["metadata"]["annotations"]["lb"] == "internal"
    assert service["metadata"]["labels"]["a"] == "b"
    assert claim["metadata"]["labels"]["cost"] == "ml"
    assert claim["metadata"]["annotations"]["backup"] == "yes"
    assert {pod["metadata"]["uid"] for pod in world.server_pods()} == pods
    assert world.reconcile().actions == []


@pytest.mark.parametrize("render", [merge_job, prune_job, revision_deployment])
@pytest.mark.parametrize("stated", [{}, {"fsGroup": 7}])
def test_user_and_groups_can_be_left_to_the_platform(render: Any, stated: Body) -> None:
    words: Body = {"image": "i", "pull_policy": "Always", "shared_volume": False}
    more: dict[Any, Body] = {
        merge_job: {"attempt": 0, "series": "s", "capacity": ""},
        prune_job: {"keep": {"a" * 16}},
        revision_deployment: {"revision": "r", "artifact_id": "a" * 16, "replicas": 1, "annotations": {}},
    }
    words |= more[render]
    subject = model(serving={"podSecurityContext": stated})
    fixed, left = (
        render(subject, **words, **more)["spec"]["template"]["spec"]["securityContext"]
        for more in ({}, {"platform_user": True})
    )
    ours = {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532} | stated
    assert {key: fixed[key] for key in ours} == ours
    assert {key: left[key] for key in left if key in ours} == stated
    assert left["runAsNonRoot"] is True


@pytest.mark.parametrize("version", first(["1.37", "1.34"]))
def test_with_every_field_stated_the_objects_are_valid_kubernetes(version: str) -> None:
    subject = model(
        storage={"size": "1Gi", "labels": {"a": "b"}, "annotations": {"a": "b"}},
        merge={
            **{name: {"a": "b"} for name in ("jobLabels", "jobAnnotations", "podLabels", "podAnnotations")},
            "schedulerName": "volcano",
            "priorityClassName": "low",
            "hostUsers": False,
            "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}}],
        },
        serving={
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "h100"}],
            "resources": {"claims": [{"name": "gpu", "request": "one"}]},
            **{name: {"a": "b"} for name in ("deploymentLabels", "deploymentAnnotations", "serviceAnnotations")},
            "schedulerName": "volcano",
            "hostUsers": False,
        },
    )
    for render in (merge, clean_up, deployment, model_service, storage_claim):
        kubernetes_validate.validate(render(subject), version, strict=True)
