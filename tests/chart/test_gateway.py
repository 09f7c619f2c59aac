"""The chart's gateway: off by default, asks for keys, sees models and endpoints and one Secret."""

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from vicuna_server.gateway import cli

CHART = Path(__file__).resolve().parents[2] / "charts" / "vicuna-operator"
LABELS = {"app.kubernetes.io/name": "vicuna-operator-gateway", "app.kubernetes.io/instance": "vo"}

Objects = list[dict[str, Any]]
Render = Callable[..., Objects]
Helm = Callable[..., subprocess.CompletedProcess[str]]

MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "namespaced": {"watchNamespaces": ["team-a", "team-b"]},
    "one without keys": {"gateway.replicas": 1, "gateway.keys": {"enabled": False}},
    "everything else": {
        "gateway.image": {"repository": "registry.example/gw", "tag": "1.2.3", "pullPolicy": "Always"},
        "gateway.keys": {"secretName": "my-keys"},
        "gateway.service": {"type": "LoadBalancer", "port": 8080, "annotations": {"a": "b"}},
        "gateway.ingress": {
            "enabled": True,
            "host": "chat.example",
            "className": "nginx",
            "tlsSecretName": "cert",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "off"},
        },
        "gateway.maxConnections": 2_000_000,
        "gateway.sessionHeader": "",
        "gateway.hold": {"seconds": 0, "requests": 7},
        "gateway.maxBodyMemory": 268_435_456,
        "gateway.trustedProxies": ["10.0.0.0/8", "fd00::1"],
        "gateway.allowedOrigins": ["https://app.example", "http://localhost:3000"],
        "gateway.affinity": {"nodeAffinity": {}},
        "gateway.tolerations": [{"key": "a", "operator": "Exists"}],
        "gateway.nodeSelector": {"kubernetes.io/os": "linux"},
        "gateway.podLabels": {"team": "ml", "app.kubernetes.io/name": "must-not-win"},
        "gateway.podAnnotations": {"note": "x"},
        "imagePullSecrets": [{"name": "pull"}],
        "priorityClassName": "high",
    },
}
every_variant = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())


@pytest.fixture(scope="module")
def gateway(render: Render) -> Render:
    """Render what the gateway adds to a release."""

    def run(values: dict[str, Any]) -> Objects:
        without = {key: value for key, value in values.items() if not key.startswith("gateway")}
        plain = render(without)
        found = [item for item in render({"gateway.enabled": True, **copy.deepcopy(values)}) if item not in plain]
        return [item for item in found if "helm.sh/hook" not in item["metadata"].get("annotations", {})]

    return run


def _one(objects: Objects, kind: str) -> dict[str, Any]:
    (only,) = (item for item in objects if item["kind"] == kind)
    return only


def _container(objects: Objects) -> dict[str, Any]:
    containers: list[dict[str, Any]] = _one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    (only,) = containers
    return only


@every_variant
def test_every_object_is_valid_and_bears_the_gateways_name(gateway: Render, values: dict[str, Any]) -> None:
    objects = gateway(values)
    seen = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects]
    assert len(seen) == len(set(seen)) >= 6
    for item in objects:
        kubernetes_validate.validate(item, "1.37", strict=True)
        assert item["metadata"]["labels"].items() >= LABELS.items()
        assert "gateway" in item["metadata"]["name"]


@every_variant
def test_its_pods_are_hardened_found_by_its_service_and_by_no_other(
    gateway: Render, render: Render, values: dict[str, Any]
) -> None:
    objects = gateway(values)
    template = _one(objects, "Deployment")["spec"]["template"]
    security = template["spec"]["securityContext"]
    assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert _container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert _one(objects, "Service")["spec"]["selector"] == LABELS
    assert template["metadata"]["labels"].items() >= LABELS.items()
    operator = next(item for item in render() if item["kind"] == "Deployment")
    assert not operator["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


@every_variant
def test_its_flags_are_the_commands_own(gateway: Render, values: dict[str, Any]) -> None:
    import argparse

    command, *flags = _container(gateway(values))["args"]
    assert command == "gateway"
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    args = parser.parse_args(flags)
    options = cli._options(args)
    assert options.namespaces == tuple(values.get("watchNamespaces", ()))
    assert options.service == ("vicuna-system", "vo-vicuna-operator-gateway")


def _settings(objects: Objects) -> Any:
    import argparse

    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli._options(parser.parse_args(_container(objects)["args"][1:])).settings


def test_its_limits_are_the_values_own(gateway: Render) -> None:
    defaults = _settings(gateway({}))
    assert (defaults.max_connections, defaults.max_requests) == (3000, 2000)
    stated = _settings(gateway(MATRIX["everything else"]))
    assert (stated.max_connections, stated.max_body_memory) == (2_000_000, 268_435_456)
    assert [str(network) for network in stated.trusted_proxies] == ["10.0.0.0/8", "fd00::1/128"]
    assert stated.allowed_origins == ("https://app.example", "http://localhost:3000")
    assert defaults.allowed_origins == ()
    assert (defaults.hold_seconds, defaults.max_held) == (50, 50)
    assert (stated.hold_seconds, stated.max_held) == (0, 7)
    assert (defaults.session_header, stated.session_header) == ("x-session-id", "")


def test_an_address_has_a_share_only_where_addresses_are_those_of_clients(gateway: Render) -> None:
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    cluster = {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}
    assert _settings(gateway({})).max_per_address == 0
    assert _settings(gateway({"gateway.service": cluster})).max_per_address == 0
    assert _settings(gateway({"gateway.service": local})).max_per_address == 256
    assert _settings(gateway({"gateway.trustedProxies": ["10.0.0.1"]})).max_per_address == 256
    assert _settings(gateway({"gateway.service": local, "gateway.maxPerAddress": 0})).max_per_address == 0
    assert _one(gateway({"gateway.service": local}), "Service")["spec"]["externalTrafficPolicy"] == "Local"
    assert "externalTrafficPolicy" not in _one(gateway({}), "Service")["spec"]


def test_values_of_an_earlier_chart_still_render(gateway: Render) -> None:
    """`helm upgrade --reuse-values` leaves out what is new."""
    new = {"maxConnections": None, "maxBodyMemory": None, "trustedProxies": None, "maxPerAddress": None}
    new |= {"allowedOrigins": None, "hold": None, "sessionHeader": None}
    stated = {f"gateway.{name}": value for name, value in new.items()}
    objects = gateway({**stated, "gateway.service": {"externalTrafficPolicy": None}})
    assert _settings(objects).max_connections == 3000


@pytest.mark.parametrize("namespaces", [[], ["team-a", "team-b"]])
def test_it_may_see_models_endpoints_one_secret_and_its_counts_and_nothing_else(
    gateway: Render, namespaces: list[str]
) -> None:
    objects = gateway({"watchNamespaces": namespaces})
    roles = [item for item in objects if item["kind"] in ("Role", "ClusterRole")]
    rules = [rule for role in roles for rule in role["rules"]]
    (counts,) = (rule for rule in rules if "vicunausages" in rule["resources"])
    rules.remove(counts)
    assert counts == {
        "apiGroups": ["vicuna.dev"],
        "resources": ["vicunausages"],
        "verbs": ["list", "create", "update", "delete"],
    }
    assert all(set(rule["verbs"]) == {"get", "list", "watch"} for rule in rules)
    (home,) = (role for role in roles if counts in role["rules"])
    assert (home["kind"], home["metadata"]["namespace"]) == ("Role", "vicuna-system")
    assert {name for rule in rules for name in rule["resources"]} == {"vicunamodels", "endpointslices", "secrets"}
    (secrets,) = (rule for rule in rules if "secrets" in rule["resources"])
    assert secrets["resourceNames"] == ["vo-vicuna-operator-gateway-keys"]
    kinds = sorted((item["kind"], item["metadata"].get("namespace")) for item in roles)
    routes: list[tuple[str, str | None]] = [("Role", name) for name in namespaces] or [("ClusterRole", None)]
    assert kinds == sorted([*routes, ("Role", "vicuna-system")], key=str)
    account = _one(objects, "ServiceAccount")["metadata"]["name"]
    for binding in (item for item in objects if item["kind"].endswith("Binding")):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "vicuna-system"}]


def test_without_keys_it_reads_no_secret_and_says_so(gateway: Render) -> None:
    objects = gateway(MATRIX["one without keys"])
    assert "--no-keys" in _container(objects)["args"]
    assert not [rule for item in objects for rule in item.get("rules", []) if "secrets" in rule["resources"]]
    assert not [item for item in objects if item["kind"] == "PodDisruptionBudget"]


def test_the_ingress_leads_to_the_service(gateway: Render) -> None:
    objects = gateway(MATRIX["everything else"])
    ingress = _one(objects, "Ingress")["spec"]
    assert ingress["tls"] == [{"hosts": ["chat.example"], "secretName": "cert"}]
    (path,) = ingress["rules"][0]["http"]["paths"]
    service = _one(objects, "Service")
    assert path["backend"]["service"]["name"] == service["metadata"]["name"]
    assert path["backend"]["service"]["port"]["name"] == service["spec"]["ports"][0]["name"]


def test_the_route_leads_from_the_gateways_of_the_cluster_to_the_service(gateway: Render) -> None:
    parents = [{"name": "public", "namespace": "infra", "sectionName": "https"}]
    stated = {"enabled": True, "parentRefs": parents, "hostnames": ["chat.example"], "timeouts": {"request": "0s"}}
    objects = gateway({"gateway.httpRoute": {**stated, "annotations": {"a": "b"}}})
    route, service = _one(objects, "HTTPRoute"), _one(objects, "Service")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["metadata"]["annotations"] == {"a": "b"}
    assert (route["spec"]["parentRefs"], route["spec"]["hostnames"]) == (parents, ["chat.example"])
    (rule,) = route["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s"}
    (backend,) = rule["backendRefs"]
    assert backend == {"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}
    plain = gateway({"gateway.httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}})
    assert not {"hostnames"} & _one(plain, "HTTPRoute")["spec"].keys()
    assert not [item for item in gateway({}) if item["kind"] == "HTTPRoute"]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"gateway": {"service": {"externalTrafficPolicy": "Local"}}}, "type"),
        ({"gateway": {"trustedProxies": ["my-proxy"]}}, "trustedProxies"),
        ({"gateway": {"maxConnections": 1}}, "maxConnections"),
        ({"gateway": {"allowedOrigins": ["https://app.example/path"]}}, "allowedOrigins"),
        ({"gateway": {"httpRoute": {"enabled": True}}}, "parentRefs"),
        ({"gateway": {"ingress": {"enabled": True}}}, "host"),
        ({"gateway": {"key": {}}}, "key"),
        ({"gateway": {"image": {"tag": "latest"}}}, "tag"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, tmp_path: Path, values: dict[str, Any], named: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = helm("template", "vo", str(CHART), "--values", str(file))
    assert done.returncode != 0
    assert named in done.stderr


def test_network_policies_let_in_the_gateway_and_the_named_peers(render: Render, gateway: Render) -> None:
    def peers(values: dict[str, Any]) -> Any:
        operator = next(item for item in render(values) if item["metadata"]["name"] == "vo-vicuna-operator"
                        and item["kind"] == "Deployment")  # fmt: skip
        env = {item["name"]: item.get("value") for item in operator["spec"]["template"]["spec"]["containers"][0]["env"]}
        return json.loads(env["VICUNA_NETWORK_PEERS"]) if "VICUNA_NETWORK_PEERS" in env else None

    assert peers({}) is None
    scraper = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    both = {"networkPolicy": {"enabled": True, "peers": [scraper]}}
    assert peers(both) == [scraper]
    own = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "vicuna-system"}},
        "podSelector": {"matchLabels": LABELS},
    }
    assert peers(both | {"gateway.enabled": True}) == [own, scraper]
