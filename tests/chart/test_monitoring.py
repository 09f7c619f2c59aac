"""Alerts, dashboard, monitors and pages: they name what operator, server and gateway really export."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.documents import manifest
from vicuna_operator.controller.metrics import Metrics as OperatorMetrics
from vicuna_operator.controller.snapshot import Snapshot
from vicuna_server.api.lifecycle import Lifecycle
from vicuna_server.api.metrics import Metrics as ServerMetrics
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway.metrics import Metrics as GatewayMetrics

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "vicuna-operator"
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
# Packages, chat templates, and labels that Prometheus makes of Kubernetes' own.
NOT_METRICS = {"vicuna_contract", "vicuna_operator", "vicuna_server", "vicuna_v0", "vicuna_v1", "vicuna_dev_model"}


Rendered = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def rendered(template: Rendered) -> Rendered:
    """Render the chart with these parts of its metrics."""

    def run(*enabled: str, gateway: bool = False) -> list[dict[str, Any]]:
        values = [*(f"metrics.{name}.enabled=true" for name in enabled), f"gateway.enabled={str(gateway).lower()}"]
        return template("--namespace", "sys", *(word for value in values for word in ("--set", value)))

    return run


def expressions() -> Iterator[str]:
    for group in ALERTS["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def exported() -> dict[str, set[str]]:
    """Return the series of each program, by the families that its registry declares."""
    server = ServerMetrics(ScriptedEngine(ScriptedSettings()), Lifecycle())
    programs: dict[str, OperatorMetrics | ServerMetrics | GatewayMetrics] = {
        "operator": OperatorMetrics(Snapshot()),
        "server": server,
        "gateway": GatewayMetrics(),
    }
    return {name: series(metrics.render().decode()) for name, metrics in programs.items()}


def series(text: str) -> set[str]:
    families = dict(re.findall(r"^# TYPE (vicuna_\w+) (\w+)$", text, flags=re.MULTILINE))
    plain = {name for name, kind in families.items() if kind != "histogram" and not name.endswith("_created")}
    parts = ("bucket", "sum", "count")
    return plain | {f"{name}_{part}" for name, kind in families.items() if kind == "histogram" for part in parts}


def names_in(text: str) -> set[str]:
    """Return the names of metrics in a text; a page names a histogram without the suffix of a series."""
    return set(re.findall(r"\bvicuna_\w+", text)) - NOT_METRICS


def without_suffix(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_alerts_and_panels_ask_for_what_is_exported(expression: str) -> None:
    asked = names_in(expression)
    assert asked
    assert asked <= set().union(*exported().values())


def test_every_program_has_panels_and_alerts() -> None:
    panels = names_in(json.dumps(DASHBOARD))
    alerts = names_in(json.dumps(ALERTS))
    for program, names in exported().items():
        families = {without_suffix(name) for name in names}
        assert families == families & {without_suffix(name) for name in panels}, f"{program}: a metric without a panel"
        assert names & alerts, program


def test_pages_name_every_metric_and_no_other() -> None:
    pages = "".join(page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
    families = {without_suffix(name) for names in exported().values() for name in names}
    assert names_in(pages) == families


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"info", "warning", "critical"}, rule["alert"]
            assert rule["annotations"]["summary"], rule["alert"]
            assert rule["annotations"]["description"].endswith("."), rule["alert"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_promtool_finds_the_rules_right() -> None:
    subprocess.run(["promtool", "check", "rules", str(CHART / "files" / "alerts.yaml")], check=True, timeout=60)


def test_nothing_of_it_is_there_unless_asked_for(rendered: Rendered) -> None:
    kinds = {item["kind"] for item in rendered()}
    assert not kinds & {"ServiceMonitor", "PrometheusRule", "ConfigMap", "Service"}


def test_the_monitor_finds_the_service_and_the_service_the_pods(rendered: Rendered) -> None:
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


def test_the_recipe_for_keda_asks_by_labels_that_the_servers_monitor_makes(rendered: Rendered) -> None:
    (monitor,) = [item for item in rendered("modelMonitor") if item["kind"] == "ServiceMonitor"]
    stated = [*monitor["spec"]["targetLabels"], *monitor["spec"]["podTargetLabels"]]
    made = {"namespace", "pod", "service", *(re.sub(r"\W", "_", label) for label in stated)}
    (trigger,) = manifest(ROOT / "docs" / "autoscaling.md", "ScaledObject")["spec"]["triggers"]
    asked = re.findall(r"(\w+)=", trigger["metadata"]["query"])
    assert set(asked) == {"namespace", "vicuna_dev_model"}
    assert set(asked) <= made


def test_the_gateways_monitor_finds_its_pods_and_their_metrics_port(rendered: Rendered) -> None:
    objects = rendered("gatewayMonitor", gateway=True)
    (monitor,) = [item for item in objects if item["kind"] == "PodMonitor"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    pods = [item["spec"]["template"] for item in objects if item["kind"] == "Deployment"]
    (pod,) = [pod for pod in pods if wanted <= pod["metadata"]["labels"].items()]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    ports = {item["name"] for container in pod["spec"]["containers"] for item in container["ports"]}
    assert endpoint["port"] in ports
    assert "PodMonitor" not in {item["kind"] for item in rendered("gatewayMonitor")}


def test_rules_and_dashboard_arrive_whole(rendered: Rendered) -> None:
    objects = rendered("rules", "dashboard")
    (rule,) = [item for item in objects if item["kind"] == "PrometheusRule"]
    assert rule["spec"] == ALERTS
    (config,) = [item for item in objects if item["kind"] == "ConfigMap"]
    assert json.loads(config["data"]["vicuna-operator.json"]) == DASHBOARD


def test_panels_do_not_overlap_and_have_a_title() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["title"] for panel in DASHBOARD["panels"])
