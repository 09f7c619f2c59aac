"""What users state of pods goes before what the operator would add."""

from typing import Any

import kubernetes_validate
import pytest

from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.resources.deployment import revision_deployment
from vicuna_operator.resources.merge_job import merge_job

OWN = {"app.kubernetes.io/name": "vicuna-server", "vicuna.dev/model": "demo"}
SPREAD = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
OVER_NODES = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}


def model(**spec: Any) -> Model:
    weights = {"base": {"source": "hf://org/base"}, "credentialsSecret": "token"}
    body = {"metadata": {"name": "demo"}, "spec": {"weights": weights, "storage": {"size": "1Gi"}, **spec}}
    found = parse_model(body)
    assert found.spec_error is None
    return found


def deployment(*, shared: bool = True, **serving: Any) -> dict[str, Any]:
    made = revision_deployment(
        model(serving=serving), revision="0a0a0a0a", artifact_id="0" * 16, image="i", pull_policy="Always", replicas=2,
        shared_volume=shared, annotations={}, digest="d" * 64,
    )  # fmt: skip
    kubernetes_validate.validate(made, "1.28", strict=True)
    return made


def pod(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = made["spec"]["template"]["spec"]
    return found


def variables(made: dict[str, Any]) -> list[str]:
    return [item["name"] for item in pod(made)["containers"][0]["env"]]


def test_the_users_variables_replace_the_operators() -> None:
    stated = [{"name": "CACHE", "value": "/cache"}, {"name": "HOME", "value": "$(CACHE)/home"}]
    made = deployment(env=stated)
    assert variables(made) == ["HF_HUB_OFFLINE", "VICUNA_ARTIFACT_DIGEST", "CACHE", "HOME"]
    assert pod(made)["containers"][0]["env"][2:] == stated, "a reference is to what stands before it"


@pytest.mark.parametrize("name", ["HOME", "HF_TOKEN_PATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_so_do_those_of_the_merge(name: str) -> None:
    merge = {"caBundle": "ca", "env": [{"name": name, "value": "mine"}]}
    made = merge_job(
        model(merge=merge), attempt=0, series="", image="i", pull_policy="Always", shared_volume=True, capacity=""
    )
    assert sorted(variables(made)) == ["HF_TOKEN_PATH", "HOME", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"]
    assert {"name": name, "value": "mine"} in pod(made)["containers"][0]["env"]


@pytest.mark.parametrize(
    ("stated", "selector"),
    [
        (SPREAD, {"matchLabels": {**OWN, "vicuna.dev/revision": "0a0a0a0a"}}),
        ({**SPREAD, "labelSelector": {}}, {}),
        ({**SPREAD, "labelSelector": {"matchLabels": {"team": "a"}}}, {"matchLabels": {"team": "a"}}),
    ],
)
def test_a_spread_without_a_selector_is_over_the_revisions_own_pods(
    stated: dict[str, Any], selector: dict[str, Any]
) -> None:
    for shared in (True, False):
        made = deployment(shared=shared, topologySpreadConstraints=[stated])
        assert pod(made)["topologySpreadConstraints"] == [{**SPREAD, "labelSelector": selector}]
        labels = made["spec"]["template"]["metadata"]["labels"]
        assert selector.get("matchLabels", {}).items() <= {**labels, "team": "a"}.items()


def test_the_default_is_over_the_nodes_where_the_volume_lets_them() -> None:
    (only,) = pod(deployment())["topologySpreadConstraints"]
    assert OVER_NODES.items() <= only.items()
    assert "topologySpreadConstraints" not in pod(deployment(shared=False))
