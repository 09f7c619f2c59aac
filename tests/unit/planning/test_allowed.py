"""What the operator's settings let models name: told by field and value, nothing is changed, and what runs goes on."""

from dataclasses import replace
from typing import Any

import pytest

from support.cluster import model_body
from support.world import CONFIG, World
from vicuna_operator.planning.allowed import KINDS, is_allowed

REF = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "k"}}}

FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("images", {"serving": {"image": "evil.example/x:1"}}, "spec.serving.image: evil.example/x:1"),
    ("serviceAccounts", {"serving": {"serviceAccountName": "admin"}}, "spec.serving.serviceAccountName: admin"),
    ("runtimeClasses", {"serving": {"runtimeClassName": "kata"}}, "spec.serving.runtimeClassName: kata"),
    ("priorityClasses", {"serving": {"priorityClassName": "high"}}, "spec.serving.priorityClassName: high"),
    ("priorityClasses", {"merge": {"priorityClassName": "high"}}, "spec.merge.priorityClassName: high"),
    ("secrets", {"serving": {"imagePullSecrets": [{"name": "mine"}]}}, "spec.serving.imagePullSecrets[0].name: mine"),
    ("secrets", {"serving": {"env": [{"name": "B"}, REF]}}, "spec.serving.env[1].valueFrom.secretKeyRef.name: mine"),
    ("secrets", {"merge": {"env": [REF]}}, "spec.merge.env[0].valueFrom.secretKeyRef.name: mine"),
    (
        "secrets",
        {"weights": {"base": {"source": "hf://a/b"}, "credentialsSecret": "mine"}},
        "spec.weights.credentialsSecret: mine",
    ),
]


def world(allowed: dict[str, list[str]], **spec: Any) -> World:
    return World(model_body(**spec), config=replace(CONFIG, allowed=allowed))


@pytest.mark.parametrize(("kind", "spec", "told"), FIELDS, ids=[told for _, _, told in FIELDS])
def test_what_is_not_allowed_is_named_and_nothing_is_made(kind: str, spec: dict[str, Any], told: str) -> None:
    for patterns in ([], ["other-*", "o"]):
        here = world({kind: patterns}, **spec)
        here.reconcile()
        ready = here.condition("Ready")
        assert (ready["status"], ready["reason"]) == ("False", "NotAllowed")
        assert told in ready["message"]
        assert here.condition("Stalled")["status"] == "True"
        assert not here.all("Job")
    allowing: list[dict[str, list[str]]] = [{}, {kind: ["*"]}, {other: [] for other in KINDS if other != kind}]
    for allowed in allowing:
        here = world(allowed, **spec)
        here.reconcile()
        assert here.all("Job"), allowed


def test_a_model_that_names_nothing_is_not_narrowed() -> None:
    here = world({kind: [] for kind in KINDS})
    here.deploy()
    assert here.condition("Ready")["status"] == "True"


def test_what_runs_when_the_rule_comes_goes_on() -> None:
    here = world({}, serving={"image": "evil.example/x:1", "replicas": 2})
    here.deploy()
    pods = {pod["metadata"]["uid"] for pod in here.server_pods()}
    here.config = replace(here.config, allowed={"images": ["registry.example/*"]})
    here.settle()
    assert {pod["metadata"]["uid"] for pod in here.server_pods()} == pods
    assert here.condition("Ready")["reason"] == "NotAllowed"
    assert here.condition("Available")["status"] == "True"
    before = here.writes
    here.reconcile()
    assert here.writes == before
    here.edit(serving={"image": "registry.example/x:1"})
    here.settle()
    assert here.condition("Ready")["status"] == "True"


@pytest.mark.parametrize(
    ("value", "pattern", "fits"),
    [
        ("registry.example/a/b:1", "registry.example/*", True),
        ("registryXexample/a", "registry.example/*", False),
        ("registry.example.evil/a", "registry.example/*", False),
        ("x/registry.example/a", "registry.example/*", False),
        ("ab", "a?", True),
        ("abc", "a?", False),
        ("a", "a[a]", False),
        ("a\nb", "a*", True),
        ("", "", True),
    ],
)
def test_patterns_are_of_the_whole_value(value: str, pattern: str, fits: bool) -> None:
    assert is_allowed(value, [pattern]) is fits


@pytest.mark.parametrize(
    ("allowed", "adopted"),
    [
        ({"images": ["registry.example/*"]}, True),
        ({"images": []}, True),  # it is the default image
        ({"serviceAccounts": []}, True),
    ],
)
def test_orphans_obey_the_same_limits(allowed: dict[str, list[str]], adopted: bool) -> None:
    here = world({})
    here.deploy()
    item = here.only("Deployment")
    for kind in ("Deployment", "Service", "Job"):
        lost = here.only(kind)
        lost["metadata"].pop("ownerReferences")
        here.remove(lost)
        here.put(lost)
    here.config = replace(here.config, allowed=allowed)
    here.reconcile()
    assert ("ownerReferences" in here.find("Deployment", item["metadata"]["name"])["metadata"]) is adopted


@pytest.mark.parametrize(
    "stated", [{"image": "evil.example/x:1"}, {"engine": "vllm", "engineImage": "evil.example/x:1"}]
)
def test_an_orphan_with_another_image_is_a_stray_where_images_are_narrowed(stated: dict[str, str]) -> None:
    here = world({}, serving=stated)
    here.deploy()
    lost = here.only("Deployment")
    lost["metadata"].pop("ownerReferences")
    here.remove(lost)
    here.put(lost)
    here.config = replace(here.config, allowed={"images": ["registry.example/*"]})
    here.edit(serving={"image": None, "engineImage": None})
    for _ in range(3):
        here.reconcile()
    assert "ownerReferences" not in here.find("Deployment", lost["metadata"]["name"])["metadata"]
    assert here.condition("Drifted")["reason"] == "Orphaned"
