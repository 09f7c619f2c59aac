"""The chart's value `allowed`: it reaches the operator, and becomes a policy where the cluster has such."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cel
import kubernetes_validate
import pytest

from vicuna_operator.api.model import parse_model
from vicuna_operator.planning.allowed import KINDS, not_allowed

CHART = Path(__file__).resolve().parents[2] / "charts" / "vicuna-operator"
POLICIES = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"
ALLOWED = {
    "images": ["registry.example/*", "a?b"],
    "serviceAccounts": ["models-*"],
    "runtimeClasses": ["nvidia"],
    "priorityClasses": [],
    "secrets": ["hf-*"],
}
REF = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "k"}}}
GOOD = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "hf-token", "key": "k"}}}
SPECS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"serving": {}, "merge": {}}, True),
    ({"serving": {"image": "registry.example/x:1"}}, True),
    ({"serving": {"image": "registryXexample/x:1"}}, False),
    ({"serving": {"image": "a.b"}}, True),
    ({"serving": {"image": "a..b"}}, False),
    ({"serving": {"engine": "vllm", "engineImage": "registry.example/vllm:1"}}, True),
    ({"serving": {"engine": "vllm", "engineImage": "elsewhere/vllm:1"}}, False),
    ({"serving": {"serviceAccountName": "models-a"}}, True),
    ({"serving": {"serviceAccountName": "admin"}}, False),
    ({"serving": {"runtimeClassName": "nvidia"}}, True),
    ({"serving": {"runtimeClassName": "nvidia2"}}, False),
    ({"serving": {"priorityClassName": "high"}}, False),
    ({"merge": {"priorityClassName": "high"}}, False),
    ({"serving": {"imagePullSecrets": [{"name": "hf-a"}, {"name": "mine"}]}}, False),
    ({"serving": {"imagePullSecrets": [{"name": "hf-a"}]}}, True),
    ({"serving": {"env": [{"name": "B", "value": "x"}, GOOD]}}, True),
    ({"serving": {"env": [{"name": "B", "value": "x"}, REF]}}, False),
    ({"merge": {"env": [REF]}}, False),
]

Helm = Callable[..., subprocess.CompletedProcess[str]]
Objects = list[dict[str, Any]]
Template = Callable[..., Objects]


def rendered(template: Template, *more: str, allowed: dict[str, list[str]] | None = None) -> Objects:
    words = [] if allowed is None else [f"--set-json=allowed={json.dumps(allowed)}"]
    return template("--namespace", "vicuna-system", *words, *more)


def policies(objects: Objects) -> Objects:
    return [item for item in objects if item["kind"].startswith("ValidatingAdmissionPolicy")]


def test_it_reaches_the_operator(template: Template) -> None:
    def variables(objects: Objects) -> dict[str, str]:
        (operator,) = [item for item in objects if item["kind"] == "Deployment"]
        (container,) = operator["spec"]["template"]["spec"]["containers"]
        return {item["name"]: item.get("value") for item in container["env"]}

    assert json.loads(variables(rendered(template, allowed=ALLOWED))["VICUNA_ALLOWED"]) == ALLOWED
    assert "VICUNA_ALLOWED" not in variables(rendered(template))


def test_a_policy_is_made_only_where_it_is_wanted_and_known(template: Template) -> None:
    assert policies(rendered(template, allowed=ALLOWED)) == []
    assert policies(rendered(template, "--api-versions", POLICIES)) == []
    policy, binding = policies(rendered(template, "--api-versions", POLICIES, allowed=ALLOWED))
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    for item in (policy, binding):
        for version in ("1.30", "1.37"):
            kubernetes_validate.validate(item, version, strict=True)


def test_the_policy_is_for_the_watched_namespaces(template: Template) -> None:
    words = ["--api-versions", POLICIES, "--set-json", 'watchNamespaces=["a","b"]']
    _, binding = policies(rendered(template, *words, allowed=ALLOWED))
    (term,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert (term["operator"], term["values"]) == ("In", ["a", "b"])


@pytest.mark.parametrize(("spec", "good"), SPECS, ids=[json.dumps(spec) for spec, _ in SPECS])
def test_policy_and_operator_judge_alike(template: Template, spec: dict[str, Any], good: bool) -> None:
    policy, _ = policies(rendered(template, "--api-versions", POLICIES, allowed=ALLOWED))
    whole = {"weights": {"base": {"source": "hf://a/b"}}, "storage": {"size": "1Gi"}, **spec}
    verdicts = [cel.evaluate(item["expression"], {"object": {"spec": whole}}) for item in policy["spec"]["validations"]]
    assert all(verdict is True for verdict in verdicts) is good
    model = parse_model({"metadata": {"name": "m", "namespace": "n", "uid": "u", "generation": 1}, "spec": whole})
    assert model.spec is not None
    assert (not_allowed(model.spec, ALLOWED) == []) is good


def test_what_is_stored_can_still_be_labelled(template: Template) -> None:
    policy, _ = policies(rendered(template, "--api-versions", POLICIES, allowed=ALLOWED))
    (condition,) = policy["spec"]["matchConditions"]
    old, new = {"spec": {"a": 1}}, {"spec": {"a": 2}}
    for before, after, matches in ((None, new, True), (old, old, False), (old, new, True)):
        assert cel.evaluate(condition["expression"], {"oldObject": before, "object": after}) is matches


@pytest.mark.parametrize("wrong", [{"image": []}, {"images": ["a b"]}, {"images": ["a'b"]}, {"images": "x"}])
def test_a_wrong_value_is_refused(helm: Helm, wrong: dict[str, Any]) -> None:
    done = helm("template", "vo", str(CHART), f"--set-json=allowed={json.dumps(wrong)}")
    assert done.returncode != 0
    assert "allowed" in done.stderr


def test_every_kind_is_known_to_both() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]["allowed"]["properties"]) == set(KINDS)
