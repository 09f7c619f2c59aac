"""What the operator renders, held against reviewed files; `UPDATE_GOLDEN=1 pytest tests/unit/resources` rewrites."""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from support.amount import first
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.resources.budget import disruption_budget
from vicuna_operator.resources.claim import storage_claim
from vicuna_operator.resources.deployment import revision_deployment
from vicuna_operator.resources.merge_job import merge_job
from vicuna_operator.resources.network_policy import network_policy
from vicuna_operator.resources.prune_job import prune_job
from vicuna_operator.resources.service import model_service

GOLDEN = Path(__file__).parent / "golden"
KUBERNETES = [f"1.{minor}" for minor in range(30, 38)]

SMALL: dict[str, Any] = {
    "weights": {"base": {"source": "pvc://inputs/llama"}, "delta": {"source": "pvc://inputs/delta"}},
    "storage": {"size": "40Gi"},
}
FULL: dict[str, Any] = {
    "weights": {
        "base": {"source": "hf://huggyllama/llama-13b", "revision": "f" * 40},
        "delta": {"source": "pvc://weights/delta", "digest": "a" * 64, "kind": "additive-v1.1"},
        "credentialsSecret": "hf-token",
    },
    "merge": {
        "dtype": "bfloat16",
        "activeDeadlineSeconds": 600,
        "maxBytesPerSecond": 1000000,
        "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "2Gi"}},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "io", "operator": "Exists"}],
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "caBundle": "corporate-ca",
    },
    "storage": {"claimName": "weights", "keepRevisions": 3},
    "serving": {
        "replicas": 3,
        "numGpus": 2,
        "gpuResource": "nvidia.com/mig-3g.20gb",
        "dtype": "bfloat16",
        "quantization": "int8",
        "maxGpuMemory": "13Gi",
        "chatTemplate": "vicuna_v1.1",
        "servedName": "vicuna-13b",
        "contextLength": 2048,
        "maxConcurrency": 16,
        "maxStreamSeconds": 300,
        "image": "registry.example/team/server:2",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "serviceAccountName": "models",
        "podLabels": {"cost": "team-a", "vicuna.dev/model": "forged"},
        "podAnnotations": {"note": "x"},
        "podSecurityContext": {"runAsUser": 1234, "fsGroup": 1234},
        "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "32Gi"}},
        "nodeSelector": {"gpu": "a100"},
        "affinity": {
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}
                ]
            }
        },
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
        ],
        "runtimeClassName": "nvidia",
        "priorityClassName": "high",
        "env": [{"name": "LOG", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "serviceType": "LoadBalancer",
    },
}


VLLM: dict[str, Any] = {
    **SMALL,
    "serving": {
        "numGpus": 2,
        "engine": "vllm",
        "engineArgs": ["--gpu-memory-utilization=0.8", "--enforce-eager"],
        "contextLength": 2048,
        "maxStreamSeconds": 300,
        "prefixCache": "Off",
        "resources": {"requests": {"cpu": "4"}, "limits": {"memory": "64Gi"}},
        "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
    },
}


def model(spec: Mapping[str, Any]) -> Model:
    parsed = parse_model(
        {"metadata": {"name": "demo", "namespace": "team", "uid": "uid-1", "generation": 1}, "spec": spec}
    )
    assert parsed.spec_error is None
    return parsed


def rendered(spec: Mapping[str, Any], *, shared: bool) -> dict[str, dict[str, Any]]:
    subject = model(spec)
    image, policy = "registry.example/server:1", "IfNotPresent"
    objects = {
        "job": merge_job(
            subject,
            attempt=1,
            series="5e71e500",
            image=image,
            pull_policy=policy,
            shared_volume=shared,
            capacity="40Gi",
        ),
        "deployment": revision_deployment(
            subject,
            revision="0a1b2c3d",
            artifact_id="0123456789abcdef",
            image=image,
            engine_image="registry.example/vllm:0.32" if spec is VLLM else None,
            pull_policy=policy,
            replicas=2,
            shared_volume=shared,
            annotations={"vicuna.dev/rollout-started": "2026-01-01T00:00:00Z"},
        ),
        "service": model_service(subject),
        "budget": disruption_budget(subject),
        "policy": network_policy(subject, [{"podSelector": {"matchLabels": {"app": "gateway"}}}]),
        "prune": prune_job(subject, keep=["b" * 16, "a" * 16], image=image, pull_policy=policy, shared_volume=shared),
    }
    if subject.spec is not None and subject.spec.storage.claim_name is None:
        objects["claim"] = storage_claim(subject)
    return objects


CASES = {"small": (SMALL, False), "full": (FULL, True), "vllm": (VLLM, False)}


@pytest.mark.parametrize("case", CASES)
def test_rendered_objects_equal_the_reviewed_ones(case: str) -> None:
    spec, shared = CASES[case]
    text = yaml.safe_dump_all(rendered(spec, shared=shared).values(), sort_keys=True, width=120)
    path = GOLDEN / f"{case}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("version", first(reversed(KUBERNETES)))
@pytest.mark.parametrize("case", first(CASES))
def test_rendered_objects_are_valid_kubernetes(case: str, version: str) -> None:
    spec, shared = CASES[case]
    for body in rendered(spec, shared=shared).values():
        kubernetes_validate.validate(body, version, strict=True)


@pytest.mark.parametrize("case", CASES)
def test_pods_meet_the_restricted_pod_security_standard(case: str) -> None:
    spec, shared = CASES[case]
    objects = rendered(spec, shared=shared)
    for kind in ("job", "prune", "deployment"):
        pod = objects[kind]["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]


def test_users_labels_cannot_replace_ours() -> None:
    template = rendered(FULL, shared=True)["deployment"]["spec"]["template"]
    assert template["metadata"]["labels"]["vicuna.dev/model"] == "demo"
    assert template["metadata"]["labels"]["cost"] == "team-a"


def test_servers_cannot_write_to_the_weights() -> None:
    for case in CASES:
        spec, shared = CASES[case]
        for container in rendered(spec, shared=shared)["deployment"]["spec"]["template"]["spec"]["containers"]:
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            assert mounts["models"]["readOnly"] is True
            assert "subPath" not in mounts["models"]


def test_a_merge_pod_is_met_by_no_selector_of_serving_pods() -> None:
    objects = rendered(SMALL, shared=False)
    selectors = (objects["service"]["spec"]["selector"], objects["deployment"]["spec"]["selector"]["matchLabels"])
    for kind, selector in itertools.product(("job", "prune"), selectors):
        labels = objects[kind]["spec"]["template"]["metadata"]["labels"]
        assert any(labels.get(key) != value for key, value in selector.items())


def test_pods_spread_over_nodes_unless_the_volume_or_the_user_says_otherwise() -> None:
    def constraints(spec: Mapping[str, Any], shared: bool) -> Any:
        pod = rendered(spec, shared=shared)["deployment"]["spec"]["template"]["spec"]
        return pod.get("topologySpreadConstraints")

    assert constraints(SMALL, False) is None
    (default,) = constraints(SMALL, True)
    assert (default["topologyKey"], default["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    assert default["labelSelector"]["matchLabels"]["vicuna.dev/revision"] == "0a1b2c3d"
    assert [item["topologyKey"] for item in constraints(FULL, True)] == ["zone"]


def test_a_merge_never_asks_for_a_gpu() -> None:
    (container,) = rendered(FULL, shared=True)["job"]["spec"]["template"]["spec"]["containers"]
    assert not [name for name in container["resources"]["limits"] if "/" in name]


def test_the_grace_period_covers_the_longest_stream() -> None:
    pod = rendered(FULL, shared=True)["deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 300 + 30
