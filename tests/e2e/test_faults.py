"""Faults of a real cluster, all provoked at once: each has its reason and a next step on the object."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .cluster import Namespace, make_namespace, model, run, scripted, until

Body = dict[str, Any]

STATIC = "static"  # a claim for a hand-made volume that nobody has made


def small_storage(body: Body, **more: Any) -> None:
    body["spec"]["storage"] = {"size": "1Gi", "reclaimPolicy": "Delete", **more}


def missing_class(body: Body) -> None:
    small_storage(body, storageClassName="no-such-class")


def unbound(body: Body) -> None:
    body["spec"]["storage"] = {"claimName": STATIC}


def missing_secret(body: Body) -> None:
    body["spec"]["weights"]["base"] = {"source": "hf://org/base", "revision": "0" * 40}
    body["spec"]["weights"]["credentialsSecret"] = "no-such-secret"


def missing_config_map(body: Body) -> None:
    body["spec"]["merge"] = {"caBundle": "no-such-bundle"}


def small_memory(body: Body) -> None:
    body["spec"]["merge"] = {"resources": {"limits": {"memory": "24Mi"}}}


def server_small_memory(body: Body) -> None:
    body["spec"]["serving"]["resources"] = {"limits": {"memory": "24Mi"}}


def deadline(body: Body) -> None:
    # an artifact of its own, slowly: the deadline comes first
    body["spec"]["merge"] = {"dtype": "bfloat16", "activeDeadlineSeconds": 3, "maxBytesPerSecond": 1000}


FAULTS: dict[str, tuple[Callable[[Body], None], str, str]] = {
    "missing-class": (missing_class, "StorageClassNotFound", "no-such-class"),
    "unbound": (unbound, "ClaimUnbound", "spec.storage.storageClassName"),
    "missing-secret": (missing_secret, "SecretNotFound", "no-such-secret"),
    "missing-config-map": (missing_config_map, "ConfigMapNotFound", "no-such-bundle"),
    "merge-memory": (small_memory, "OOMKilled", "spec.merge.resources.limits.memory"),
    "server-memory": (server_small_memory, "OOMKilled", "spec.serving.resources.limits.memory"),
    "deadline": (deadline, "DeadlineExceeded", "spec.merge.activeDeadlineSeconds"),
}


def claim(name: str, **more: Any) -> Body:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **more}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def broken(team: Namespace) -> Iterator[Namespace]:
    team.apply(claim(STATIC, storageClassName=""))
    bodies = []
    for name, (change, _, _) in FAULTS.items():
        body = model(name, "weights", serving=scripted(maxStreamSeconds=5))
        change(body)
        # all of them fit on one small node
        body["spec"].setdefault("merge", {}).setdefault("resources", {})["requests"] = {"cpu": "10m"}
        bodies.append(body)
    team.apply(*bodies)
    yield team
    team.kubectl("delete", "vicunamodel", *FAULTS, "--ignore-not-found", "--timeout=120s", timeout=150)
    team.kubectl("delete", "pvc", STATIC, "--wait=false")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_a_next_step(broken: Namespace, name: str) -> None:
    _, reason, word = FAULTS[name]
    condition = broken.wait_reason(name, reason, 90)
    assert word in condition["message"]
    assert broken.status(name)["reason"] == reason


def quota(name: str, **hard: str) -> Body:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}}


@pytest.fixture
def strict(operator: Namespace) -> Iterator[Namespace]:
    """A namespace of its own, whose quotas and webhooks touch nobody else."""
    namespace = make_namespace("vicuna-e2e-strict")
    run("kubectl", "label", "namespace", namespace.name, "vicuna-e2e=strict", "--overwrite")
    namespace.apply(claim("weights"))
    yield namespace
    run("kubectl", "delete", "validatingwebhookconfiguration", "vicuna-e2e", "--ignore-not-found")
    run("kubectl", "delete", "namespace", namespace.name, "--wait=false")


def test_a_quota_and_a_webhook_that_refuse_pods_are_named(strict: Namespace) -> None:
    strict.apply(quota("none", pods="0"))
    strict.apply(model("over-quota", "weights", serving=scripted()))
    condition = strict.wait_reason("over-quota", "QuotaExceeded", 30)
    assert "exceeded quota: none" in condition["message"]
    assert "raise the ResourceQuota" in condition["message"]
    strict.kubectl("delete", "resourcequota", "none")
    strict.kubectl("delete", "vicunamodel", "over-quota")
    webhook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "vicuna-e2e"},
        "webhooks": [
            {
                "name": "nobody.answers.example",
                "clientConfig": {"service": {"name": "absent", "namespace": strict.name, "path": "/"}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "namespaceSelector": {"matchLabels": {"vicuna-e2e": "strict"}},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 1,
            }
        ],
    }
    run("kubectl", "apply", "--validate=false", "-f", "-", stdin=json.dumps(webhook))
    until("the webhook is asked", lambda: "nobody.answers" in refused_pod(strict), 30)
    strict.apply(model("unwanted", "weights", serving=scripted()))
    condition = strict.wait_reason("unwanted", "AdmissionRefused", 30)
    assert "nobody.answers.example" in condition["message"]


def refused_pod(namespace: Namespace) -> str:
    """Try to make a pod and return why it is not made; empty when it would be."""
    try:
        namespace.kubectl("run", "probe", "--image=none.invalid/none:1", "--dry-run=server")
    except AssertionError as error:
        return str(error)
    return ""
