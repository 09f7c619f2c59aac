"""Who is let in where the chart makes NetworkPolicies, and when it makes them by itself: only in a new install.

No cluster of ours enforces NetworkPolicies: what they would let through is judged here, as the API describes it.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from vicuna_operator.config import load_config

CHART = Path(__file__).resolve().parents[2] / "charts" / "vicuna-operator"
NAMESPACE, OPERATOR, GATEWAY = "vicuna-system", "vo-vicuna-operator", "vo-vicuna-operator-gateway"
BEGAN = "vicuna.dev/began-shielded"

Object = dict[str, Any]
Objects = list[Object]
Render = Callable[..., Objects]
Helm = Callable[..., subprocess.CompletedProcess[str]]
Labels = Mapping[str, str]


def server_peers(objects: Objects) -> Objects | None:
    """Return whom the operator is told to let in to the servers of every model; None: it makes no policy."""
    (operator,) = [item for item in objects if item["kind"] == "Deployment" and item["metadata"]["name"] == OPERATOR]
    env = {item["name"]: item.get("value", "") for item in operator["spec"]["template"]["spec"]["containers"][0]["env"]}
    found = load_config({}, {"VICUNA_SERVER_IMAGE": "i", "VICUNA_NETWORK_PEERS": env.get("VICUNA_NETWORK_PEERS", "")})
    peers = found.plan.network_peers
    return None if peers is None else [dict(peer) for peer in peers]


def policy_of(objects: Objects, name: str) -> Object | None:
    policies = (item for item in objects if item["kind"] == "NetworkPolicy")
    return next((item for item in policies if item["metadata"]["name"] == name), None)


def gateway_policy(objects: Objects) -> Object | None:
    return policy_of(objects, GATEWAY)


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Tell whether a LabelSelector with matchLabels and In-terms selects these labels."""
    terms = selector.get("matchExpressions", ())
    assert all(term["operator"] == "In" for term in terms)
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(labels.get(term["key"]) in term["values"] for term in terms)


def lets_in(peers: Objects | None, namespace: str, pod: Labels, own: str = NAMESPACE) -> bool:
    """Tell whether NetworkPolicyPeers let a pod in; `own` is the namespace of the policy. None: there is no policy."""
    if peers is None:
        return True
    labels = {"kubernetes.io/metadata.name": namespace}
    return any(
        selects(peer["namespaceSelector"], labels) if "namespaceSelector" in peer else namespace == own
        for peer in peers
        if "ipBlock" not in peer and selects(peer.get("podSelector", {}), pod)
    )


def port_peers(policy: Object, port: str) -> Objects | None:
    """Return who may reach a port of the pods; None: everybody."""
    rules = [rule for rule in policy["spec"]["ingress"] if port in [item["port"] for item in rule["ports"]]]
    if any("from" not in rule for rule in rules):
        return None
    return [peer for rule in rules for peer in rule["from"]]


GATEWAY_POD = {"app.kubernetes.io/name": "vicuna-operator-gateway", "app.kubernetes.io/instance": "vo"}
STATED = {
    "gateway.enabled": True,
    "networkPolicy": {
        "enabled": True,
        "namespaces": ["batch", "notebooks"],
        "peers": [{"podSelector": {"matchLabels": {"friend": "yes"}}}],
        "monitoring": {"namespaceLabels": {"kubernetes.io/metadata.name": "mon"}, "podLabels": {"app": "prometheus"}},
        "gateway": {"enabled": True, "namespaces": ["ingress"], "peers": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    },
}


@pytest.mark.parametrize(
    ("namespace", "pod", "servers", "door", "metrics"),
    [
        (NAMESPACE, GATEWAY_POD, True, False, False),
        ("elsewhere", GATEWAY_POD, False, False, False),
        (NAMESPACE, {"app.kubernetes.io/name": "other"}, False, False, False),
        ("batch", {}, True, False, False),
        ("notebooks", {"a": "b"}, True, False, False),
        ("mon", {"app": "prometheus"}, True, False, True),
        ("mon", {"app": "grafana"}, False, False, False),
        ("elsewhere", {"app": "prometheus"}, False, False, False),
        ("ingress", {}, False, True, False),
        (NAMESPACE, {"friend": "yes"}, True, False, True),
        ("elsewhere", {}, False, False, False),
    ],
)
def test_only_those_come_in_who_are_named(
    render: Render, namespace: str, pod: Labels, servers: bool, door: bool, metrics: bool
) -> None:
    objects = render(STATED)
    policy, operator = gateway_policy(objects), policy_of(objects, OPERATOR)
    assert policy is not None
    assert operator is not None
    assert lets_in(server_peers(objects), namespace, pod) is servers
    assert lets_in(port_peers(policy, "http"), namespace, pod) is door
    assert lets_in(port_peers(policy, "metrics"), namespace, pod) is metrics
    assert lets_in(port_peers(operator, "health"), namespace, pod) is metrics


@pytest.mark.parametrize("name", [GATEWAY, OPERATOR])
def test_a_policy_is_valid_and_for_its_own_pods_alone(render: Render, name: str) -> None:
    objects = render(STATED)
    policy = policy_of(objects, name)
    assert policy is not None
    for version in ("1.30", "1.37"):
        kubernetes_validate.validate(policy, version, strict=True)
    assert policy["spec"]["policyTypes"] == ["Ingress"], "what the pods themselves open is not narrowed"
    selected = [
        item["metadata"]["name"]
        for item in objects
        if item["kind"] in ("Deployment", "Job")
        and selects(policy["spec"]["podSelector"], item["spec"]["template"]["metadata"]["labels"])
    ]
    assert selected == [name]
    (pods,) = [item for item in objects if item["kind"] == "Deployment" and item["metadata"]["name"] == name]
    ports = {port["name"] for port in pods["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert {item["port"] for rule in policy["spec"]["ingress"] for item in rule["ports"]} == ports


def test_a_load_balancer_is_let_in_by_its_address(render: Render) -> None:
    policy = gateway_policy(render(STATED))
    assert policy is not None
    assert {"ipBlock": {"cidr": "192.0.2.0/24"}} in (port_peers(policy, "http") or [])


@pytest.mark.parametrize("gateway", [True, False])
def test_where_nobody_is_named_nobody_reaches_the_operator(render: Render, gateway: bool) -> None:
    policy = policy_of(render({"gateway.enabled": gateway, "networkPolicy.enabled": True}), OPERATOR)
    assert policy is not None
    assert policy["spec"]["ingress"] == []
    kubernetes_validate.validate(policy, "1.30", strict=True)


def test_by_default_everybody_reaches_the_door_and_nobody_its_metrics(render: Render) -> None:
    policy = gateway_policy(render({"gateway.enabled": True, "networkPolicy.gateway": {"enabled": True}}))
    assert policy is not None
    assert port_peers(policy, "http") is None
    assert port_peers(policy, "metrics") == []


def test_one_can_be_had_without_the_other(render: Render) -> None:
    servers = render({"gateway.enabled": True, "networkPolicy.enabled": True})
    assert on(servers) == (True, False)
    door = render({"gateway.enabled": True, "networkPolicy.gateway": {"enabled": True}})
    assert on(door) == (False, True)
    assert gateway_policy(render({"networkPolicy.gateway": {"enabled": True}})) is None, "there is no gateway"


@pytest.mark.parametrize("words", [[], ["--is-upgrade"], ["--api-versions", "vicuna.dev/v1alpha1/VicunaModel"]])
def test_what_is_rendered_without_a_cluster_makes_none_unless_it_is_stated(helm: Helm, words: list[str]) -> None:
    """Argo CD renders an upgrade exactly as it renders an install."""
    done = helm("template", "vo", str(CHART), "--namespace", NAMESPACE, "--set", "gateway.enabled=true", *words)
    objects = [item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item]
    assert on(objects) == (False, False)
    assert BEGAN not in done.stdout


class Cluster(ThreadingHTTPServer):
    """As much of an API server as helm asks when it looks something up."""

    daemon_threads = True

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/view": {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "view"},
            }
        }
        self.groups: dict[str, dict[str, str]] = {
            "v1": {"serviceaccounts": "ServiceAccount", "services": "Service"},
            "apps/v1": {"deployments": "Deployment"},
            "batch/v1": {"jobs": "Job"},
            "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
            "rbac.authorization.k8s.io/v1": {
                name: kind
                for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
                for name in [f"{kind.lower()}s"]
            },
        }
        super().__init__(("127.0.0.1", 0), _Answers)

    def find(self, path: str) -> Object | None:
        """Return what is at a path."""
        if path == "/version":
            return {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": list(map(_group, self.groups.keys() - {"v1"})),
            }
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version in self.groups:
            kinds = self.groups[version].items()
            listed = [{"name": n, "kind": k, "namespaced": "Cluster" not in k, "verbs": ["get"]} for n, k in kinds]
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}
        return self.objects.get(path)


def _group(version: str) -> Object:
    group, _, number = version.partition("/")
    entry = {"groupVersion": version, "version": number}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


class _Answers(BaseHTTPRequestHandler):
    server: Cluster

    def do_GET(self) -> None:
        found = self.server.find(self.path.partition("?")[0])
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(found or missing).encode()
        self.send_response(200 if found else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Cluster]:
    with Cluster() as cluster:
        thread = threading.Thread(target=cluster.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield cluster
        finally:
            cluster.shutdown()
            thread.join()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with serving() as running:
        yield running


def at_cluster(helm: Helm, cluster: Cluster, *words: str) -> Objects:
    """Render as `helm install` does, or with --is-upgrade as `helm upgrade`: at a cluster, where lookups answer."""
    address = f"--kube-apiserver=http://127.0.0.1:{cluster.server_address[1]}"
    stated = ["--namespace", NAMESPACE, "--set", "crds.install=false", address, "--dry-run=server"]
    done = helm("template", "vo", str(CHART), *stated, "--disable-openapi-validation", *words)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item]


WITH = ("--set", "gateway.enabled=true")


def on(objects: Objects) -> tuple[bool, bool]:
    """Tell whether there are policies for servers, and with them for the operator, and one for the gateway."""
    assert (policy_of(objects, OPERATOR) is None) == (server_peers(objects) is None)
    return server_peers(objects) is not None, gateway_policy(objects) is not None


def keep(cluster: Cluster, objects: Objects) -> None:
    """Take the operator's Deployment as a cluster has it after an install."""
    (operator,) = [item for item in objects if item["kind"] == "Deployment" and item["metadata"]["name"] == OPERATOR]
    cluster.objects[f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{OPERATOR}"] = operator


def test_a_new_install_with_the_gateway_is_shielded_and_stays_so(helm: Helm, cluster: Cluster) -> None:
    first = at_cluster(helm, cluster, *WITH)
    assert on(first) == (True, True)
    keep(cluster, first)
    cluster.groups["vicuna.dev/v1alpha1"] = {"vicunamodels": "VicunaModel"}
    second = at_cluster(helm, cluster, *WITH, "--is-upgrade")
    assert on(second) == (True, True)
    keep(cluster, second)
    stated = ("--set", "networkPolicy.enabled=false", "--set", "networkPolicy.gateway.enabled=false")
    off = at_cluster(helm, cluster, *WITH, *stated, "--is-upgrade")
    assert on(off) == (False, False)
    keep(cluster, off)
    without = at_cluster(helm, cluster, "--is-upgrade")
    assert on(without) == (False, False), "without the gateway nobody could reach the servers"
    keep(cluster, without)
    assert on(at_cluster(helm, cluster, *WITH, "--is-upgrade")) == (True, True), "the release is the same"


def test_an_upgrade_of_a_release_from_before_changes_nothing_that_is_not_stated(helm: Helm, cluster: Cluster) -> None:
    cluster.groups["vicuna.dev/v1alpha1"] = {"vicunamodels": "VicunaModel"}
    metadata = {"name": OPERATOR, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/managed-by": "Helm"}}
    owned = {"meta.helm.sh/release-name": "vo", "meta.helm.sh/release-namespace": NAMESPACE}
    before = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {**metadata, "annotations": owned}}
    cluster.objects[f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{OPERATOR}"] = before
    upgraded = at_cluster(helm, cluster, *WITH, "--is-upgrade")
    assert on(upgraded) == (False, False)
    assert BEGAN not in json.dumps(upgraded)
    again = at_cluster(helm, cluster, *WITH)
    assert on(again) == (False, False), "also where a tool says install each time"
    stated = ("--set", "networkPolicy.enabled=true")
    assert on(at_cluster(helm, cluster, *WITH, *stated, "--is-upgrade")) == (True, False)


@pytest.mark.parametrize(
    "what", ["models are there", "no gateway", "only some namespaces", "an upgrade", "no view of roles"]
)
def test_where_somebody_may_rely_on_reaching_servers_nothing_is_closed(helm: Helm, cluster: Cluster, what: str) -> None:
    words = [*WITH]
    if what == "models are there":
        cluster.groups["vicuna.dev/v1alpha1"] = {"vicunamodels": "VicunaModel"}
    elif what == "no gateway":
        words = ["--set", "gateway.enabled=false"]
    elif what == "only some namespaces":
        words += ["--set", "watchNamespaces={team}"]
    elif what == "an upgrade":
        words += ["--is-upgrade"]
    else:
        cluster.objects.clear()
    objects = at_cluster(helm, cluster, *words)
    assert on(objects) == (False, False)
    assert BEGAN not in json.dumps(objects)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"enabled": "yes"}, "enabled"),
        ({"gateway": {"enabled": 1}}, "enabled"),
        ({"monitoring": {"podLabels": {"app": "prometheus"}}}, "namespaceLabels"),
        ({"namespaces": ["Not_ok"]}, "namespaces"),
        ({"monitor": {}}, "monitor"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, values: dict[str, Any], named: str) -> None:
    done = helm("template", "vo", str(CHART), f"--set-json=networkPolicy={json.dumps(values)}")
    assert done.returncode != 0
    assert named in done.stderr


def test_the_notes_say_who_gets_past_the_keys_and_who_does_not_get_in(helm: Helm) -> None:
    def notes(*words: str) -> str:
        client = ["--dry-run=client", "--namespace", NAMESPACE]
        done = helm("install", "vo", str(CHART), *client, *WITH, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    assert "every pod of the cluster" in notes()
    assert "the peers that networkPolicy names" in notes("--set", "networkPolicy.enabled=true")
    assert "nobody. Pods from before" in notes("--set", "gateway.signing.required=true")
    monitor = ("--set", "networkPolicy.enabled=true", "--set", "metrics.serviceMonitor.enabled=true")
    named = ("--set-json", 'networkPolicy.monitoring.namespaceLabels={"kubernetes.io/metadata.name": "mon"}')
    assert "keep Prometheus out" in notes(*monitor)
    assert "keep Prometheus out" not in notes(*monitor, *named)
    assert "keep Prometheus out" not in notes("--set", "metrics.serviceMonitor.enabled=true")
