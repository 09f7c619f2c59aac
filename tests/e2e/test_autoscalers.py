"""The recipes of docs/autoscaling.md for other autoscalers, with the cluster's own HorizontalPodAutoscaler controller.

It asks a stand-in in a pod for the metrics (`metrics_adapter.py`), in place of prometheus-adapter or KEDA.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.documents import manifest

from .cluster import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    ROOT,
    SERVER_IMAGE,
    Namespace,
    in_toolbox,
    model,
    pod_conditions,
    run,
    scripted,
    until,
)
from .test_soak import clients

pytestmark = pytest.mark.full

PAGE = ROOT / "docs" / "autoscaling.md"
ADAPTER, ASKS = "metrics-adapter", "asks-for-metrics"
RBAC = "rbac.authorization.k8s.io/v1"
SERVICES = {f"v1beta1.{group}": group for group in ("custom.metrics.k8s.io", "external.metrics.k8s.io")}
TARGET, MOST, CLIENTS = 4, 3, 20
RATE, SECONDS = 10, 90
SCRIPT = [
    {"name": "VICUNA_ENGINE", "value": "scripted"},
    {"name": "VICUNA_SCRIPTED_TOKENS", "value": "60"},
    {"name": "VICUNA_SCRIPTED_TOKENS_PER_SECOND", "value": str(RATE)},
]

Body = dict[str, Any]


@pytest.fixture(scope="module")
def adapter(team: Namespace) -> Iterator[None]:
    """Both APIs of metrics, which go before their pod: no namespace can be deleted while one does not answer."""
    if taken := run("kubectl", "get", "apiservice", *SERVICES, "--ignore-not-found", "--output=name").split():
        pytest.skip(f"the cluster has metrics for autoscalers already: {taken}")
    team.apply(*_adapter(team.name))
    try:
        team.kubectl("wait", "--for=condition=Ready", f"pod/{ADAPTER}", "--timeout=120s")
        team.apply(*(_api_service(group, team.name) for group in SERVICES.values()))
        run("kubectl", "wait", "--for=condition=Available", "--timeout=60s", "apiservice", *SERVICES)
        yield
    finally:
        run("kubectl", "delete", "apiservice", "--ignore-not-found", *SERVICES)
        print(team.kubectl("logs", ADAPTER, "--tail=20", check=False))
        made = [f"{kind}/{ADAPTER}" for kind in ("pod", "service", "rolebinding", "serviceaccount")]
        team.kubectl("delete", *made, f"rolebinding/{ASKS}", f"role/{ASKS}")


def from_the_servers(name: str) -> Body:
    """Return the recipe of a HorizontalPodAutoscaler, with a smaller target."""
    body = manifest(PAGE, "HorizontalPodAutoscaler")
    (metric,) = body["spec"]["metrics"]
    metric["pods"]["target"]["averageValue"] = str(TARGET)
    return body


def from_keda(name: str) -> Body:
    """Return the HorizontalPodAutoscaler that KEDA makes of the recipe of a ScaledObject, with a smaller target."""
    spec = manifest(PAGE, "ScaledObject")["spec"]
    metric = {"name": "s0-prometheus", "selector": {"matchLabels": {"scaledobject.keda.sh/name": name}}}
    target = {"type": "AverageValue", "averageValue": str(TARGET)}
    metrics = [{"type": "External", "external": {"metric": metric, "target": target}}]
    scaled = {"scaleTargetRef": spec["scaleTargetRef"], "minReplicas": spec["minReplicaCount"], "metrics": metrics}
    return {"kind": "HorizontalPodAutoscaler", "spec": scaled}


@pytest.mark.parametrize("metrics", [from_the_servers, from_keda])
def test_an_autoscaler_adds_pods_and_removes_them_without_cutting_a_stream(
    team: Namespace, adapter: None, fresh: str, metrics: Callable[[str], Body]
) -> None:
    team.apply(model(fresh, "weights", serving=scripted() | {"env": SCRIPT}))
    team.wait_ready(fresh)
    seen: Body = {}
    with autoscaled(team, fresh, metrics(fresh)) as kind, ExitStack() as opened:
        with clients(team, fresh, seen, CLIENTS):
            pods = until(f"{MOST} pods serve", lambda: serving(team, fresh, MOST), 180)
            autoscaler = team.get(kind, fresh) or {}
            streams = [opened.enter_context(stream(team, fresh, pod)) for pod in pods]
        until("all pods but one are stopping", lambda: serving(team, fresh, 1), SECONDS)
        assert [process.poll() for process in streams] == [None] * MOST, "the streams have ended before the pods"
        results = [result(process) for process in streams]
        sizes = rescaled(team, autoscaler)
    assert (seen["failed"], seen["requests"] > CLIENTS) == (0, True), seen
    assert [(one["error"], one["last"]) for one in results] == [("", "data: [DONE]")] * MOST
    assert [len(one["text"].split()) for one in results] == [RATE * SECONDS] * MOST
    assert {f"New size: {MOST}", "New size: 1"} <= {text.partition(";")[0] for text in sizes}
    status = autoscaler["status"]
    assert {item["type"]: item["reason"] for item in status["conditions"]}["ScalingActive"] == "ValidMetricFound"
    print(*sizes, status["currentMetrics"], sep="\n")


@contextmanager
def autoscaled(team: Namespace, name: str, body: Body) -> Iterator[str]:
    """Let a HorizontalPodAutoscaler scale a model, and at once where fewer pods are enough; yield its kind."""
    version = "v2" if "autoscaling/v2" in run("kubectl", "api-versions").split() else "v2beta2"
    kind = f"horizontalpodautoscalers.{version}.autoscaling"
    spec = {"maxReplicas": MOST, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}
    body |= {"apiVersion": f"autoscaling/{version}", "metadata": {"name": name}, "spec": body["spec"] | spec}
    body["spec"]["scaleTargetRef"]["name"] = name
    team.apply(body)
    try:
        yield kind
    finally:
        team.kubectl("delete", kind, name)


def serving(team: Namespace, name: str, count: int) -> list[Body] | None:
    """Return the pods that are ready and shall stay, once they are as many, and no others are asked for."""
    asked = (team.get("vicunamodel", name) or {})["spec"]["serving"]["replicas"]
    staying = [pod for pod in team.pods(name) if "deletionTimestamp" not in pod["metadata"]]
    ready = [pod for pod in staying if pod_conditions(pod).get("Ready") == "True"]
    return ready if asked == len(ready) == len(staying) == count else None


def rescaled(team: Namespace, autoscaler: Body) -> list[str]:
    """Return what an autoscaler says that it did."""
    of_it = f"involvedObject.uid={autoscaler['metadata']['uid']},reason=SuccessfulRescale"
    events = json.loads(team.kubectl("get", "events", f"--field-selector={of_it}", "--output=json"))["items"]
    return [event["message"] for event in events]


@contextmanager
def stream(team: Namespace, name: str, pod: Body) -> Iterator[subprocess.Popen[str]]:
    """Begin a long stream from one pod; yield what reads it, once there is text."""
    url = f"http://{pod['status']['podIP']}:8000"
    with in_toolbox(team, "survivors.py", url, "none", name, RATE * SECONDS, 1) as process:
        assert process.stdout is not None
        begun = process.stdout.readline()
        assert begun == '{"streaming": 1}\n', begun or process.communicate()[1]
        yield process


def result(process: subprocess.Popen[str]) -> Body:
    """Read a stream to its end; return what its client saw."""
    said, error = process.communicate(timeout=SECONDS + 60)
    assert process.returncode == 0, error
    found: Body
    (found,) = json.loads(said.splitlines()[-1])
    return found


def _adapter(namespace: str) -> list[Body]:
    """Return the stand-in: its account, which may read pods, its pod and Service, and who may ask for its metrics."""
    meta = {"name": ADAPTER, "labels": {"app": ADAPTER}}
    container = {
        "name": ADAPTER,
        "image": SERVER_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", (Path(__file__).parent / "metrics_adapter.py").read_text()],
        "readinessProbe": {"tcpSocket": {"port": 6443}, "periodSeconds": 1},
        "securityContext": dict(CONTAINER_SECURITY),
    }
    pod = {"serviceAccountName": ADAPTER, "securityContext": dict(POD_SECURITY), "containers": [container]}
    service = {"selector": {"app": ADAPTER}, "ports": [{"port": 443, "targetPort": 6443}]}
    rules = [{"apiGroups": list(SERVICES.values()), "resources": ["*"], "verbs": ["get", "list"]}]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        _binding(meta, "ClusterRole", "view", ADAPTER, namespace),
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
        # Kubernetes lets the controller read custom metrics; external ones are left to whoever brings them, as KEDA.
        {"apiVersion": RBAC, "kind": "Role", "metadata": {"name": ASKS}, "rules": rules},
        _binding({"name": ASKS}, "Role", ASKS, "horizontal-pod-autoscaler", "kube-system"),
    ]


def _binding(meta: Body, kind: str, role: str, account: str, namespace: str) -> Body:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    return {"apiVersion": RBAC, "kind": "RoleBinding", "metadata": meta, "roleRef": reference, "subjects": [subject]}


def _api_service(group: str, namespace: str) -> Body:
    spec = {"group": group, "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100}
    spec |= {"insecureSkipTLSVerify": True, "service": {"name": ADAPTER, "namespace": namespace}}
    name = {"name": f"v1beta1.{group}"}
    return {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": name, "spec": spec}
