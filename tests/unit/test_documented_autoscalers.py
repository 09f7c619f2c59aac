"""The recipes for other autoscalers fit the CRD, Kubernetes' own schema and the metrics of a server."""

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from support import crd_schema
from support.documents import ROOT, blocks, manifest

PAGE = ROOT / "docs" / "autoscaling.md"
AUTOSCALER, SCALED = manifest(PAGE, "HorizontalPodAutoscaler"), manifest(PAGE, "ScaledObject")
TOLERANCE = 1.1
"""How far above its target the controller lets a metric be, by default."""


def rule() -> dict[str, Any]:
    """Return the rule for prometheus-adapter."""
    bodies = [yaml.safe_load(code.text) for code in blocks(PAGE) if "seriesQuery" in code.text]
    found: dict[str, Any]
    ((found,),) = bodies
    return found


def target(autoscaler: dict[str, Any]) -> int:
    """Return the requests for each replica."""
    spec = autoscaler["spec"]
    if autoscaler is SCALED:
        return int(spec["triggers"][0]["metadata"]["threshold"])
    return int(spec["metrics"][0]["pods"]["target"]["averageValue"])


@pytest.mark.parametrize("body", [AUTOSCALER, SCALED], ids=lambda body: str(body["kind"]))
def test_they_scale_a_model(body: dict[str, Any]) -> None:
    definition = crd_schema.crd()["spec"]
    (version,) = definition["versions"]
    assert "scale" in version["subresources"]
    wanted = {"apiVersion": f"{definition['group']}/{version['name']}", "kind": definition["names"]["kind"]}
    assert wanted.items() <= body["spec"]["scaleTargetRef"].items()


def test_the_autoscaler_is_one_of_kubernetes() -> None:
    for version in ("1.28", "1.37"):
        kubernetes_validate.validate(AUTOSCALER, version, strict=True)


def test_the_rule_offers_what_the_autoscaler_asks_for() -> None:
    (metric,) = AUTOSCALER["spec"]["metrics"]
    assert re.match(r"\w+", rule()["seriesQuery"])[0] == metric["pods"]["metric"]["name"]  # type: ignore[index]
    assert set(re.findall(r'(\w+)!=""', rule()["seriesQuery"])) == set(rule()["resources"]["overrides"])


@pytest.mark.parametrize("body", [AUTOSCALER, SCALED], ids=lambda body: str(body["kind"]))
def test_a_server_can_be_above_the_target(body: dict[str, Any]) -> None:
    serving = crd_schema.schema()["properties"]["spec"]["properties"]["serving"]["properties"]
    assert target(body) * TOLERANCE < serving["maxConcurrency"]["default"]


def test_keda_leaves_a_replica_and_does_not_take_silence_for_none() -> None:
    (trigger,) = SCALED["spec"]["triggers"]
    assert SCALED["spec"]["minReplicaCount"] > 0
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert {name: type(value) for name, value in trigger["metadata"].items() if not isinstance(value, str)} == {}
