"""The chart: what it renders is valid today, hardened, least privileged, and says wrong values."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from vicuna_contract.vllm_arguments import VLLM_IMAGE

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "vicuna-operator"

Objects = list[dict[str, Any]]
Render = Callable[..., Objects]
Helm = Callable[..., subprocess.CompletedProcess[str]]

MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "namespaced": {"watchNamespaces": ["team-a", "team-b"]},
    "two replicas": {"replicas": 2, "priorityClassName": "system-cluster-critical"},
    "no crd": {"crds": {"install": False}},
    "crd removed with the release": {"crds": {"keep": False}},
    "no progress, no aggregation": {"mergeProgress": {"enabled": False}, "rbac": {"aggregate": False}},
    "foreign service account": {"serviceAccount": {"create": False, "name": "mine"}},
    "monitored": {
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "modelMonitor": {"enabled": True},
            "rules": {"enabled": True},
            "dashboard": {"enabled": True},
        }
    },
    "everything else": {
        "image": {"repository": "registry.example/op", "tag": "1.2.3", "pullPolicy": "Always"},
        "serverImage": {"repository": "registry.example/server", "tag": "1.2.3", "pullPolicy": "Never"},
        "frontImage": {"repository": "registry.example/front", "tag": "1.2.3"},
        "vllmImage": {"repository": "registry.example/vllm@sha256", "tag": "0" * 64},
        "imagePullSecrets": [{"name": "pull"}],
        "logLevel": "debug",
        "logFormat": "json",
        "leaseName": "lease",
        "fullnameOverride": "full",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "control", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}]}},
        "podAnnotations": {"note": "x"},
        "podLabels": {"team": "ml", "app.kubernetes.io/name": "must-not-win"},
        "serviceAccount": {"annotations": {"role": "arn"}},
    },
}  # fmt: skip
every_variant = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())


def of_kind(objects: Objects, kind: str) -> Objects:
    return [item for item in objects if item["kind"] == kind]


def container(objects: Objects) -> dict[str, Any]:
    (deployment,) = of_kind(objects, "Deployment")
    containers: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    (only,) = containers
    return only


def environment(objects: Objects) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container(objects)["env"]}


def rules(objects: Objects) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in ("Role", "ClusterRole"):
        for role in of_kind(objects, kind):
            for rule in role["rules"]:
                yield role["metadata"]["name"], rule


def test_lint_is_clean(helm: Helm) -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@every_variant
def test_every_object_is_valid_in_a_current_cluster(render: Render, values: dict[str, Any]) -> None:
    objects = render(values)
    assert objects
    for item in objects:
        if not item["apiVersion"].startswith("monitoring.coreos.com/"):  # Prometheus' own, in no published schema
            kubernetes_validate.validate(item, "1.37", strict=True)


@every_variant
def test_names_are_unique_and_namespaced_objects_say_where(render: Render, values: dict[str, Any]) -> None:
    objects = render(values)
    cluster_wide = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
    seen = [(i["kind"], i["metadata"].get("namespace"), i["metadata"]["name"]) for i in objects]
    assert len(seen) == len(set(seen))
    for kind, namespace, name in seen:
        assert (namespace is None) == (kind in cluster_wide), name


def test_the_crds_are_those_in_crds(render: Render) -> None:
    definitions = {item["metadata"]["name"]: item for item in of_kind(render(), "CustomResourceDefinition")}
    assert definitions.keys() == {"vicunamodels.vicuna.dev", "vicunausages.vicuna.dev"}
    for name, rendered in definitions.items():
        file = f"{name.partition('.')[0]}.yaml"
        source = (ROOT / "crds" / file).read_bytes()
        assert (CHART / "files" / file).read_bytes() == source, "make chart-crd copies it"
        annotations = rendered["metadata"].pop("annotations")
        assert annotations == {"helm.sh/resource-policy": "keep"}
        assert rendered == yaml.load(source, yaml.CSafeLoader)


def test_the_crds_can_be_left_out_or_removed_with_the_release(render: Render) -> None:
    assert not of_kind(render({"crds": {"install": False}}), "CustomResourceDefinition")
    for removed in of_kind(render({"crds": {"keep": False}}), "CustomResourceDefinition"):
        assert "annotations" not in removed["metadata"]


def test_what_was_used_is_read_by_administrators_alone(render: Render) -> None:
    readers = [role for role in of_kind(render(), "ClusterRole")
               if any("vicunausages" in rule["resources"] for rule in role["rules"])]  # fmt: skip
    (role,) = readers
    aggregated = {label for label in role["metadata"]["labels"] if "aggregate" in label}
    assert aggregated == {"rbac.authorization.k8s.io/aggregate-to-admin"}
    assert [set(rule["verbs"]) for rule in role["rules"]] == [{"get", "list", "watch"}]


@every_variant
def test_the_pod_is_hardened(render: Render, values: dict[str, Any]) -> None:
    objects = render(values)
    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["terminationGracePeriodSeconds"] == 15
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    assert container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(objects)["resources"]["limits"]["memory"]


@every_variant
def test_images_have_a_tag_that_means_something(render: Render, values: dict[str, Any]) -> None:
    objects = render(values)
    for image in (container(objects)["image"], environment(objects)["VICUNA_SERVER_IMAGE"]):
        tag = image.rpartition(":")[2]
        assert tag, image
        assert tag != "latest"
        assert tag[0].isdigit(), image


def test_default_images_are_the_charts_version(render: Render) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert container(render())["image"] == f"vicuna-operator:{version}"
    assert environment(render())["VICUNA_SERVER_IMAGE"] == f"vicuna-server:{version}"
    assert environment(render())["VICUNA_FRONT_IMAGE"] == f"vicuna-front:{version}"


def test_vllms_is_the_version_that_its_arguments_are_written_for(render: Render, helm: Helm) -> None:
    assert environment(render())["VICUNA_VLLM_IMAGE"] == VLLM_IMAGE
    without = helm("template", "vo", str(CHART), "--set", "vllmImage.tag=")
    assert without.returncode != 0
    assert "vllmImage.tag: name a version of vLLM" in without.stderr


def test_values_reach_the_operator(render: Render) -> None:
    env = environment(
        render(MATRIX["everything else"] | {"watchNamespaces": ["a", "b"], "mergeProgress": {"enabled": False}})
    )
    assert env == {
        "VICUNA_SERVER_IMAGE": "registry.example/server:1.2.3",
        "VICUNA_SERVER_IMAGE_PULL_POLICY": "Never",
        "VICUNA_FRONT_IMAGE": "registry.example/front:1.2.3",
        "VICUNA_VLLM_IMAGE": f"registry.example/vllm@sha256:{'0' * 64}",
        "VICUNA_WATCH_NAMESPACES": "a,b",
        "VICUNA_LEASE_NAME": "lease",
        "VICUNA_PLATFORM_USER": "false",
        "VICUNA_MERGE_PROGRESS": "false",
        "VICUNA_HEALTH_PORT": "8080",
        "VICUNA_LOG_LEVEL": "debug",
        "VICUNA_LOG_FORMAT": "json",
        "POD_NAME": {"fieldRef": {"fieldPath": "metadata.name"}},
        "POD_NAMESPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}},
    }


def test_pod_labels_cannot_break_the_selector(render: Render) -> None:
    (deployment,) = of_kind(render(MATRIX["everything else"]), "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "ml"
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_a_disruption_budget_only_where_it_can_be_kept(render: Render, helm: Helm) -> None:
    assert not of_kind(render(), "PodDisruptionBudget")
    assert len(of_kind(render({"replicas": 2}), "PodDisruptionBudget")) == 1
    without_policy = helm("template", "vo", str(CHART), "--set", "replicas=2", "--kube-version", "1.20.0")
    assert without_policy.returncode == 0, without_policy.stderr
    kinds = [item["kind"] for item in yaml.load_all(without_policy.stdout, yaml.CSafeLoader) if item]
    assert "Deployment" in kinds


@every_variant
def test_no_right_is_broader_than_needed(render: Render, values: dict[str, Any]) -> None:
    forbidden = {"secrets", "pods/exec", "pods/attach", "pods/portforward", "nodes", "namespaces", "configmaps",
                 "customresourcedefinitions", "serviceaccounts", "roles", "clusterroles"}  # fmt: skip
    for name, rule in rules(render(values)):
        assert not forbidden & set(rule["resources"]), name
        for words in (rule["apiGroups"], rule["resources"], rule["verbs"]):
            assert not any("*" in word for word in words), (name, rule)
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"]), name
        if "vicunamodels" in rule["resources"] and not name.endswith((":edit", ":view")):
            assert set(rule["verbs"]) == {"get", "list", "watch"}, "the operator never writes spec"


def test_namespaced_mode_has_roles_only(render: Render) -> None:
    objects = render({"watchNamespaces": ["team-a", "team-b"], "rbac": {"aggregate": False}})
    assert not of_kind(objects, "ClusterRole")
    assert not of_kind(objects, "ClusterRoleBinding")
    where = sorted(role["metadata"]["namespace"] for role in of_kind(objects, "Role"))
    assert where == ["team-a", "team-b", "vicuna-system", "vicuna-system"]  # the Lease, and the gateways' demand
    for binding in of_kind(objects, "RoleBinding"):
        (subject,) = binding["subjects"]
        assert subject == {"kind": "ServiceAccount", "name": "vo-vicuna-operator", "namespace": "vicuna-system"}


def test_both_modes_give_the_same_rights(render: Render) -> None:
    (everywhere,) = [
        r for r in of_kind(render(), "ClusterRole") if not r["metadata"]["name"].endswith((":view", ":edit", ":usage"))
    ]
    roles = of_kind(render({"watchNamespaces": ["team-a"]}), "Role")
    (there,) = [role for role in roles if role["metadata"]["namespace"] == "team-a"]
    assert there["rules"] == everywhere["rules"]


def test_reading_merge_logs_is_a_switch(render: Render) -> None:
    def has_logs(objects: Objects) -> bool:
        return any("pods/log" in rule["resources"] for _, rule in rules(objects))

    assert has_logs(render())
    assert not has_logs(render({"mergeProgress": {"enabled": False}}))


def test_the_lease_is_the_only_one_it_can_change(render: Render) -> None:
    objects = render({"leaseName": "lease"})
    lease_rules = [rule for _, rule in rules(objects) if "leases" in rule["resources"]]
    named = [rule for rule in lease_rules if rule["verbs"] not in (["create"], ["get"])]
    assert [rule.get("resourceNames") for rule in named] == [["lease"]]
    assert environment(objects)["VICUNA_LEASE_NAME"] == "lease"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"serverimage": {"tag": "1"}}, "serverimage"),
        ({"image": {"repo": "x"}}, "repo"),
        ({"image": {"tag": "latest"}}, "/image/tag"),
        ({"watchNamespaces": "team-a"}, "watchNamespaces"),
        ({"logLevel": "loud"}, "logLevel"),
        ({"crds": {"kept": True}}, "kept"),
        ({"replicas": -1}, "replicas"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, tmp_path: Path, values: dict[str, Any], named: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = helm("template", "vo", str(CHART), "--values", str(file))
    assert done.returncode != 0
    assert named in done.stderr


def test_notes_say_what_uninstalling_does(helm: Helm) -> None:
    def notes(*settings: str) -> str:
        done = helm("install", "vo", str(CHART), "--dry-run=client", "--namespace", "sys", *settings)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    assert "deployment/vo-vicuna-operator" in notes()
    assert "in place" in notes()
    assert "EVERY model" in notes("--set", "crds.keep=false")
