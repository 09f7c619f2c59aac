"""The CRD: its shape, its defaults, and one accepted and one refused example of each constraint."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import cel
import jsonschema
import kubernetes_validate
import pytest
import yaml
from pydantic import BaseModel

from support import crd_schema
from vicuna_operator.api import constants
from vicuna_operator.api.conditions import ConditionType, Phase
from vicuna_operator.api.types import VicunaModelSpec

ROOT = Path(__file__).resolve().parents[2]


SCHEMA: dict[str, Any] = crd_schema.schema()
SPEC: dict[str, Any] = SCHEMA["properties"]["spec"]

MINIMAL: dict[str, Any] = {
    "apiVersion": "vicuna.dev/v1alpha1",
    "kind": "VicunaModel",
    "metadata": {"name": "vicuna"},
    "spec": {"weights": {"base": {"source": "hf://org/base"}}, "storage": {"size": "30Gi"}},
}
HEX = "0123456789abcdef" * 4


def with_value(path: str, value: Any) -> dict[str, Any]:
    """Return the minimal object with one field set; `weights.delta.source=…` makes parents as needed."""
    body = copy.deepcopy(MINIMAL)
    *parents, last = path.split(".")
    here = body
    for parent in parents:
        here = here.setdefault(parent, {})
    here[last] = value
    return body


def refused(body: dict[str, Any]) -> list[str]:
    return crd_schema.admit(body)[1]


def test_it_is_a_valid_definition_today() -> None:
    kubernetes_validate.validate(crd_schema.crd(), "1.37", strict=True)


def test_names_are_the_contracts() -> None:
    spec = crd_schema.crd()["spec"]
    (version,) = spec["versions"]
    assert (spec["group"], version["name"], spec["scope"]) == (constants.GROUP, constants.VERSION, "Namespaced")
    assert spec["names"] == {
        "kind": constants.KIND,
        "listKind": "VicunaModelList",
        "plural": constants.PLURAL,
        "singular": "vicunamodel",
        "shortNames": ["vic"],
        "categories": ["all", "ai"],
    }
    assert version["subresources"]["scale"] == {
        "specReplicasPath": ".spec.serving.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }


def test_every_node_is_structural_described_by_type_and_bounded() -> None:
    for path, node in crd_schema.nodes(SCHEMA):
        assert "x-kubernetes-preserve-unknown-fields" not in node, path
        assert ("type" in node) != bool(node.get("x-kubernetes-int-or-string")), path
        assert not ("properties" in node and "additionalProperties" in node), path
        if node.get("type") == "array":
            assert "maxItems" in node, path
            assert "x-kubernetes-list-type" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path
        free_text = node.get("type") == "string" and path not in (".apiVersion", ".kind") and "enum" not in node
        if free_text or node.get("x-kubernetes-int-or-string"):
            assert "maxLength" in node, path


def test_every_field_of_ours_has_a_description() -> None:
    fragments = {"affinity", "tolerations", "topologySpreadConstraints", "env", "podSecurityContext", "resources"}

    def own(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, child in node.get("properties", {}).items():
            yield f"{path}.{name}", child
            if name not in fragments:
                yield from own(child, f"{path}.{name}")

    for path, node in own(SPEC, "spec"):
        assert node.get("description"), path


def test_printed_columns_are_fields_of_the_status_or_spec() -> None:
    (version,) = crd_schema.crd()["spec"]["versions"]
    known = {path for path, _ in crd_schema.nodes(SCHEMA)} | {".metadata.creationTimestamp"}
    columns = {column["name"]: column for column in version["additionalPrinterColumns"]}
    assert [name for name, c in columns.items() if not c.get("priority")] == [
        "Phase", "Merge%", "Ready", "GPUs", "Revision", "Reason", "Age",
    ]  # fmt: skip
    assert [name for name, c in columns.items() if c.get("priority")] == ["Base", "Delta", "Endpoint"]
    assert {column["jsonPath"] for column in columns.values()} <= known


def test_a_minimal_object_gets_every_default() -> None:
    stored, errors = crd_schema.admit(MINIMAL)
    assert errors == []
    assert stored["spec"] == {
        "suspend": False,
        "weights": {"base": {"source": "hf://org/base"}},
        "merge": {"dtype": "float16", "retries": 3, "activeDeadlineSeconds": 7200},
        "storage": {"size": "30Gi", "accessMode": "ReadWriteOnce", "reclaimPolicy": "Retain", "keepRevisions": 2},
        "serving": {
            "replicas": 1,
            "numGpus": 1,
            "gpuResource": "nvidia.com/gpu",
            "device": "auto",
            "dtype": "auto",
            "quantization": "none",
            "chatTemplate": "auto",
            "maxConcurrency": 32,
            "maxStreamSeconds": 600,
            "rollout": {"strategy": "Auto", "progressDeadlineSeconds": 1800, "surgeWaitSeconds": 30},
            "serviceType": "ClusterIP",
        },
    }
    assert stored["status"] == {"observedGeneration": -1}


def test_every_default_passes_its_own_node_before_and_after_nested_defaulting() -> None:
    # Today's API servers check each default, CEL rules included, when the CRD itself is written.
    for path, node in crd_schema.nodes(SCHEMA):
        if "default" in node:
            for value in (node["default"], crd_schema.defaulted(node["default"], node)):
                assert crd_schema.schema_errors(value, node) == [], path
                assert crd_schema.cel_errors(value, node) == [], path
                assert crd_schema.pruned(value, node) == value, path


def test_patterns_mean_the_same_in_python_and_go() -> None:
    for path, node in crd_schema.nodes(SCHEMA):
        if "pattern" in node:
            assert node["pattern"].startswith("^"), path
            assert node["pattern"].endswith("$"), path
            assert "(?" not in node["pattern"], f"{path}: Go's regular expressions have no lookaround"
            re.compile(node["pattern"])


FILLED: dict[str, Any] = {
    "weights": {
        "base": {"source": "hf://huggyllama/llama-13b", "revision": "bf57045473f207bb1de1ed035ace226f4d9f9bba"},
        "delta": {"source": "pvc://deltas/vicuna/13b", "digest": HEX, "kind": "additive-v1.1"},
        "adapters": [{"source": "hf://org/lora", "revision": "main"}],
        "credentialsSecret": "hf-token",
    },
    "merge": {
        "maxBytesPerSecond": 1000000,
        "caBundle": "corporate-ca",
        "resources": {"limits": {"memory": "1Gi", "cpu": 2}},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    },
    "storage": {"claimName": "weights"},
    "serving": {
        "maxGpuMemory": "13Gi",
        "servedName": "lmsys/vicuna-13b",
        "contextLength": 2048,
        "image": "registry.example/vicuna-server@sha256:" + HEX,
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "pull"}],
        "serviceAccountName": "models",
        "podLabels": {"team": "ml"},
        "podAnnotations": {"note": "x"},
        "podSecurityContext": {"runAsUser": 1000, "fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"},
        "resources": {"requests": {"memory": "20Gi"}},
        "nodeSelector": {"gpu": "a100"},
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "z", "operator": "In", "values": ["a"]}]}]
                }
            },
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 1,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": {"a": "b"}},
                        },
                    }
                ]
            },
        },
        "tolerations": [{"operator": "Exists"}],
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
        ],
        "runtimeClassName": "nvidia",
        "priorityClassName": "high",
        "env": [
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "CONFIG", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
    },
}


def test_an_object_with_every_field_is_accepted_and_nothing_is_pruned() -> None:
    body = {"metadata": {"name": "full"}, "spec": FILLED}
    stored, errors = crd_schema.admit(body)
    assert errors == []
    assert crd_schema.defaulted(FILLED, SPEC) == stored["spec"]


ACCEPTED_AND_REFUSED = [
    ("metadata.name", "a" * 40, "a" * 41),
    ("metadata.name", "v1-3b", "3b"),
    ("metadata.name", "a-b", "a.b"),
    ("spec.suspend", True, "yes"),
    ("spec.weights.base.source", "hf://org/name.v1", "hf://org"),
    ("spec.weights.base.source", "pvc://claim/folder", "pvc://claim"),
    ("spec.weights.base.source", "pvc://claim/a..b/c", "pvc://claim/a/../b"),
    ("spec.weights.base.source", "pvc://claim/a", "pvc://claim/.."),
    ("spec.weights.base.source", "pvc://claim/a", "file:///a"),
    ("spec.weights.base.source", "pvc://claim/a", "https://host/a"),
    ("spec.weights.base.revision", "refs/pr/1", ""),
    ("spec.weights.base.revision", "main", "a b"),
    ("spec.weights.base.digest", HEX, "sha256:" + HEX),
    ("spec.weights.base.digest", HEX, HEX.upper()),
    ("spec.weights.delta", {"source": "hf://a/b"}, {"kind": "alpaca"}),
    ("spec.weights.delta", {"source": "hf://a/b", "kind": "alpaca"}, {"source": "hf://a/b", "kind": "lora"}),
    ("spec.weights.delta", {"source": "hf://a/b", "revision": "m"}, {"source": "pvc://a/b", "revision": "m"}),
    ("spec.weights.adapters", [{"source": "hf://a/b"}] * 16, [{"source": "hf://a/b"}] * 17),
    ("spec.weights.adapters", [{"source": "hf://a/b", "revision": "m"}], [{"source": "pvc://a/b", "revision": "m"}]),
    ("spec.weights.adapters", [{"source": "hf://a/b"}], [{"source": "file:///a"}]),
    ("spec.weights.credentialsSecret", "hf-token", "HF_TOKEN"),
    ("spec.merge.dtype", "bfloat16", "auto"),
    ("spec.merge.retries", 0, -1),
    ("spec.merge.activeDeadlineSeconds", 1, 0),
    ("spec.merge.maxBytesPerSecond", 1, 0),
    ("spec.merge.env", [{"name": "A"}], [{"value": "x"}]),
    ("spec.storage", {"size": "1Gi"}, {}),
    ("spec.storage", {"claimName": "c"}, {"claimName": "c", "size": "1Gi"}),
    ("spec.storage", {"claimName": "c"}, {"claimName": "c", "storageClassName": "fast"}),
    ("spec.storage.size", "1.5Ti", "big"),
    ("spec.storage.size", 1000, -1),
    ("spec.storage.storageClassName", "", 1),
    ("spec.storage.accessMode", "ReadWriteMany", "ReadOnlyMany"),
    ("spec.storage.reclaimPolicy", "Delete", "Recycle"),
    ("spec.storage.keepRevisions", 1, 0),
    ("spec.serving.replicas", 0, 65),
    ("spec.serving.replicas", 64, -1),
    ("spec.serving.numGpus", 16, 17),
    ("spec.serving.numGpus", 0, "1"),
    ("spec.serving.gpuResource", "nvidia.com/mig-1g.5gb", "cpu"),
    ("spec.serving", {"device": "cuda", "numGpus": 1}, {"device": "cuda", "numGpus": 0}),
    ("spec.serving", {"device": "cpu", "numGpus": 1}, {"device": "gpu", "numGpus": 1}),
    ("spec.serving", {"maxGpuMemory": "13Gi"}, {"maxGpuMemory": "13Gi", "numGpus": 0}),
    ("spec.serving.dtype", "bfloat16", "float64"),
    ("spec.serving.quantization", "nf4", "int4"),
    ("spec.serving.maxGpuMemory", "13Gi", "13 GB"),
    ("spec.serving.chatTemplate", "vicuna_v1.1", "chatml"),
    ("spec.serving.servedName", "lmsys/vicuna-13b", "/vicuna"),
    ("spec.serving.contextLength", 2048, 0),
    ("spec.serving.maxConcurrency", 1, 0),
    ("spec.serving.maxStreamSeconds", 1, 0),
    ("spec.serving.rollout.strategy", "Drain", "BlueGreen"),
    ("spec.serving.rollout.progressDeadlineSeconds", 1, 0),
    ("spec.serving.rollout.surgeWaitSeconds", 1, 0),
    ("spec.serving.image", "a/b:c", "a b"),
    ("spec.serving.imagePullPolicy", "Never", "Sometimes"),
    ("spec.serving.podLabels", {"a": "b"}, {"a": "b" * 64}),
    ("spec.serving.podSecurityContext", {"runAsUser": 1}, {"runAsUser": 0}),
    ("spec.serving.resources", {"limits": {"cpu": "500m"}}, {"limits": {"cpu": "half"}}),
    ("spec.serving.tolerations", [{"operator": "Equal"}], [{"operator": "Like"}]),
    ("spec.serving.env", [{"name": "A", "value": "x"}], [{"name": "1A", "value": "x"}]),
    (
        "spec.serving.env",
        [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}],
        [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}],
    ),
    (
        "spec.serving.env",
        [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}],
        [{"name": "A", "valueFrom": {}}],
    ),
    ("spec.serving.serviceType", "NodePort", "ExternalName"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "good", "bad"), ACCEPTED_AND_REFUSED, ids=lambda value: str(value)[:40])
def test_each_constraint(path: str, good: Any, bad: Any) -> None:
    assert refused(with_value(path, good)) == []
    errors = refused(with_value(path, bad))
    assert errors
    assert all(error.startswith(f".{path}") for error in errors), errors


def test_every_cel_rule_is_broken_by_some_refused_example() -> None:
    written = {
        rule["message"] for _, node in crd_schema.nodes(SCHEMA) for rule in node.get("x-kubernetes-validations", ())
    }
    broken = set()
    for path, _, bad in ACCEPTED_AND_REFUSED:
        for error in refused(with_value(path, bad)):
            broken |= {message for message in written if error.endswith(message)}
    assert broken == written


def test_cel_points_at_an_existing_field_and_compiles() -> None:
    for path, node in crd_schema.nodes(SCHEMA):
        for rule in node.get("x-kubernetes-validations", ()):
            cel.compile(rule["rule"])
            here = node
            for name in filter(None, rule.get("fieldPath", "").split(".")):
                here = here["properties"][name]
            assert here is not node or node["type"] != "object", f"{path}: say fieldPath"


# ---- the CRD and the operator's types are one API ----


def _unwrapped(annotation: Any) -> Any:
    """Strip `Annotated`, and `| None` of an optional field."""
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        if len(kinds) == 1:
            return _unwrapped(kinds[0])
    return annotation


def _compare(model: type[BaseModel], node: dict[str, Any], path: str) -> None:
    fields = {info.alias: info for info in model.model_fields.values()}
    assert set(fields) == set(node["properties"]), path
    assert {name for name, info in fields.items() if info.is_required()} == set(node.get("required", ())), path
    for name, info in fields.items():
        child, here, kind = node["properties"][name], f"{path}.{name}", _unwrapped(info.annotation)
        if get_origin(kind) is Literal:
            assert list(get_args(kind)) == child["enum"] or set(get_args(kind)) == set(child["enum"]), here
        if (
            get_origin(kind) is list
            and isinstance(get_args(kind)[0], type)
            and issubclass(get_args(kind)[0], BaseModel)
        ):
            _compare(get_args(kind)[0], child["items"], f"{here}[]")
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            _compare(kind, child, here)
        if "default" in child and child["type"] != "object":
            assert info.get_default(call_default_factory=True) == child["default"], here
        elif not info.is_required():
            empty = info.get_default(call_default_factory=True)
            assert empty in (None, [], {}) or isinstance(empty, BaseModel), f"{here}: the CRD has no default"
        bounds = {
            key: value
            for meta in info.metadata
            for key in ("ge", "le")
            if (value := getattr(meta, key, None)) is not None
        }
        if "ge" in bounds:
            assert child["minimum"] == bounds["ge"], here
        if "le" in bounds:
            assert child["maximum"] == bounds["le"], here


def test_the_operators_types_have_the_same_fields_defaults_enums_and_bounds() -> None:
    _compare(VicunaModelSpec, SPEC, "spec")


def test_the_operator_reads_what_the_api_server_stores() -> None:
    stored, _ = crd_schema.admit({"metadata": {"name": "full"}, "spec": FILLED})
    spec = VicunaModelSpec.model_validate(stored["spec"], extra="forbid")
    assert spec.model_dump(by_alias=True, exclude_unset=True) == stored["spec"]


def test_the_operator_sets_every_phase_but_the_one_kept_for_stored_statuses() -> None:
    phase = SCHEMA["properties"]["status"]["properties"]["phase"]
    assert set(phase["enum"]) - {str(phase) for phase in Phase} == {"Preflight"}
    assert "does not set Preflight" in " ".join(phase["description"].split())
    assert {str(phase) for phase in Phase} <= set(phase["enum"])
    admitted, errors = crd_schema.admit({**MINIMAL, "status": {"phase": "Preflight", "observedGeneration": 1}})
    assert not errors
    assert admitted["status"]["phase"] == "Preflight"


def test_conditions_and_the_name_bound_are_the_operators() -> None:
    assert SCHEMA["properties"]["metadata"]["properties"]["name"]["maxLength"] == constants.MAX_MODEL_NAME
    described = SCHEMA["properties"]["status"]["properties"]["conditions"]["description"]
    assert all(str(kind) in described for kind in ConditionType)


EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_examples_are_accepted_as_they_stand(file: Path) -> None:
    for body in yaml.safe_load_all(file.read_text()):
        if body["kind"] == constants.KIND:
            assert body["apiVersion"] == constants.API_VERSION
            assert refused(body) == []
            VicunaModelSpec.model_validate(body["spec"], extra="forbid")
            assert list(jsonschema.Draft4Validator(_closed(SPEC)).iter_errors(body["spec"])) == []


def _closed(node: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that refuses what an API server would silently prune."""
    node = dict(node)
    if "properties" in node:
        node["properties"] = {name: _closed(child) for name, child in node["properties"].items()}
        node["additionalProperties"] = False
    if "items" in node:
        node["items"] = _closed(node["items"])
    return node
