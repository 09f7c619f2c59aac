"""Alerts, dashboard and monitors: they ask for what the operator really tells."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from vicuna_operator.controller.metrics import Metrics
from vicuna_operator.controller.snapshot import Snapshot

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "vicuna-operator"
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())


def rendered(*enabled: str) -> list[dict[str, Any]]:
    words = [word for name in enabled for word in ("--set", f"metrics.{name}.enabled=true")]
    done = subprocess.run(
        ["helm", "template", "vo", str(CHART), "--namespace", "sys", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def expressions() -> Iterator[str]:
    for group in ALERTS["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def told() -> set[str]:
    metrics = Metrics(Snapshot())
    metrics.record_request("GET", 200, 0.1)
    text = metrics.render().decode()
    samples = set(re.findall(r"^(vicuna_\w+?)(?:\{| )", text, flags=re.MULTILINE))
    return samples | set(re.findall(r"^# TYPE (vicuna_\w+) gauge", text, flags=re.MULTILINE))


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_alerts_and_panels_ask_for_what_is_told(expression: str) -> None:
    asked = set(re.findall(r"vicuna_\w+", expression))
    assert asked
    assert asked <= told()


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"info", "warning", "critical"}, rule["alert"]
            assert rule["annotations"]["summary"], rule["alert"]
            assert rule["annotations"]["description"].endswith("."), rule["alert"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_promtool_finds_the_rules_right() -> None:
    subprocess.run(["promtool", "check", "rules", str(CHART / "files" / "alerts.yaml")], check=True, timeout=60)


def test_nothing_of_it_is_there_unless_asked_for() -> None:
    kinds = {item["kind"] for item in rendered()}
    assert not kinds & {"ServiceMonitor", "PrometheusRule", "ConfigMap", "Service"}


def test_the_monitor_finds_the_service_and_the_service_the_pods() -> None:
    objects = rendered("serviceMonitor")
    (service,) = [item for item in objects if item["kind"] == "Service"]
    (monitor,) = [item for item in objects if item["kind"] == "ServiceMonitor"]
    (deployment,) = [item for item in objects if item["kind"] == "Deployment"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    template = deployment["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    (port,) = service["spec"]["ports"]
    assert port["name"] == monitor["spec"]["endpoints"][0]["port"]
    assert port["targetPort"] in {item["name"] for item in template["spec"]["containers"][0]["ports"]}


def test_rules_and_dashboard_arrive_whole() -> None:
    objects = rendered("rules", "dashboard")
    (rule,) = [item for item in objects if item["kind"] == "PrometheusRule"]
    assert rule["spec"] == ALERTS
    (config,) = [item for item in objects if item["kind"] == "ConfigMap"]
    assert json.loads(config["data"]["vicuna-operator.json"]) == DASHBOARD


def test_panels_do_not_overlap_and_have_a_title() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["title"] for panel in DASHBOARD["panels"])
