"""The CRD: its shape, its defaults, and one accepted and one refused example of each constraint."""

import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import cel
import jsonschema
import kubernetes_validate
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model
from pydantic.alias_generators import to_camel

from support import crd_schema
from support.amount import first, one_of_five
from support.crd_examples import ACCEPTED_AND_REFUSED, FILLED, MINIMAL, with_value
from vicuna_contract import names
from vicuna_operator.api.conditions import ConditionType, Phase
from vicuna_operator.api.types import VicunaModelSpec

ROOT = Path(__file__).resolve().parents[2]


SCHEMA: dict[str, Any] = crd_schema.schema()
SPEC: dict[str, Any] = SCHEMA["properties"]["spec"]


def refused(body: dict[str, Any]) -> list[str]:
    return crd_schema.admit(body)[1]


def test_it_is_a_valid_definition_today() -> None:
    kubernetes_validate.validate(crd_schema.crd(), "1.37", strict=True)


def test_names_are_the_contracts() -> None:
    spec = crd_schema.crd()["spec"]
    (version,) = spec["versions"]
    assert (spec["group"], version["name"], spec["scope"]) == (names.GROUP, names.VERSION, "Namespaced")
    assert spec["names"] == {
        "kind": names.KIND,
        "listKind": "VicunaModelList",
        "plural": names.PLURAL,
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
            "rollout": {"strategy": "Auto", "progressDeadlineSeconds": 1800, "surgeWaitSeconds": 30, "tryAsleep": True},
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


def test_an_object_with_every_field_is_accepted_and_nothing_is_pruned() -> None:
    body = {"metadata": {"name": "full"}, "spec": FILLED}
    stored, errors = crd_schema.admit(body)
    assert errors == []
    assert crd_schema.defaulted(FILLED, SPEC) == stored["spec"]


@cache
def why_refused(number: int) -> list[str]:
    """Return why the refused example of this number is refused."""
    path, _, bad = ACCEPTED_AND_REFUSED[number]
    return refused(with_value(path, bad))


@pytest.mark.parametrize(
    ("number", "example"), list(enumerate(ACCEPTED_AND_REFUSED)), ids=lambda value: str(value)[:60]
)
def test_each_constraint(number: int, example: tuple[str, Any, Any]) -> None:
    path, good, _ = example
    assert refused(with_value(path, good)) == []
    errors = why_refused(number)
    assert errors
    where = re.escape(path).replace(r"\[\]", r"\[0\]").replace(r"\{\}", r"\.k")
    assert all(re.match(rf"\.{where}", error) for error in errors), errors


# Pieces of the pod API, defined once and used in several fields: each bound in them is tried in one place.
EMBEDDED = {"affinity", "env", "podSecurityContext", "resources", "tolerations", "topologySpreadConstraints"}
APPLIES_TO: dict[str, Any] = {
    "minimum": int | float, "maximum": int | float, "multipleOf": int | float,
    "minLength": str, "maxLength": str, "pattern": str,
    "minItems": list, "maxItems": list, "minProperties": dict, "maxProperties": dict, "enum": object,
}  # fmt: skip


def _reached(value: Any, node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Walk a value: every part of it with its node in the schema and that node's path."""
    yield path, node, value
    for name, item in value.items() if isinstance(value, dict) else ():
        if name in node.get("properties", {}):
            yield from _reached(item, node["properties"][name], f"{path}.{name}")
        elif isinstance(node.get("additionalProperties"), dict):
            yield from _reached(item, node["additionalProperties"], f"{path}{{}}")
    for item in value if isinstance(value, list) else ():
        yield from _reached(item, node["items"], f"{path}[]")


def _rules(path: str, node: dict[str, Any]) -> Iterator[tuple[object, str]]:
    assert not {"exclusiveMinimum", "exclusiveMaximum"} & node.keys(), f"{path}: write minimum and maximum"
    for keyword in APPLIES_TO.keys() & node.keys():
        yield (id(node) if EMBEDDED & set(re.findall(r"\w+", path)) else path), keyword


def _tried(body: dict[str, Any], schema: dict[str, Any], *, accepted: bool) -> Iterator[tuple[object, str]]:
    """List the rules that an object keeps, at the very bound, or breaks by no more than one."""
    for path, node, value in _reached(body, schema):
        for place, keyword in _rules(path, node):
            if not isinstance(value, APPLIES_TO[keyword]):
                continue
            size = value if keyword in ("minimum", "maximum") else len(value) if keyword[:3] in ("min", "max") else None
            # An accepted text may be longer than minLength: the pattern may ask for more.
            near = size is None or abs(size - node[keyword]) == (0 if accepted else 1)
            if (near or (accepted and keyword == "minLength")) and accepted == (
                jsonschema.Draft4Validator({keyword: node[keyword]}).is_valid(value)
            ):
                yield place, keyword


def untried(schema: dict[str, Any]) -> list[str]:
    """Name the bounds of the spec without an accepted example at the bound and a refused one just beyond it."""
    kept, broken = set(), set()
    for path, good, bad in ACCEPTED_AND_REFUSED:
        kept |= set(_tried(with_value(path, good), schema, accepted=True))
        broken |= set(_tried(with_value(path, bad), schema, accepted=False))
    return [
        f"{path} {keyword}"
        for path, node in crd_schema.nodes(schema)
        if not path.startswith(".status")
        for place, keyword in _rules(path, node)
        if (place, keyword) not in kept & broken
    ]


def test_every_bound_has_an_example_at_it_and_one_just_beyond() -> None:
    assert untried(SCHEMA) == [], "write them down in tests/support/crd_examples.py"


@pytest.mark.parametrize(
    "field",
    first(
        [
            {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^a+$"},
            {"type": "integer", "minimum": 1, "maximum": 5},
            {"type": "string", "enum": ["a", "b"]},
            {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 5}},
            {"type": "object", "maxProperties": 5, "additionalProperties": {"type": "integer", "minimum": 5}},
            SPEC["properties"]["weights"]["properties"]["base"]["properties"]["digest"],
        ]
    ),
    ids=str,
)
def test_a_new_field_without_examples_is_seen(field: dict[str, Any]) -> None:
    schema = copy.deepcopy(SCHEMA)
    schema["properties"]["spec"]["properties"]["serving"]["properties"]["newField"] = field
    bounds = [keyword for _, node in crd_schema.nodes(field) for keyword in APPLIES_TO if keyword in node]
    assert sorted(line.split()[1] for line in untried(schema)) == sorted(bounds)


@pytest.mark.parametrize(("where", "keyword", "bound"), one_of_five([
    ("replicas", "maximum", 63), ("replicas", "maximum", 65), ("maxConcurrency", "minimum", 0),
    ("servedName", "maxLength", 127), ("podLabels", "maxProperties", 63), ("imagePullSecrets", "maxItems", 17),
]))  # fmt: skip
def test_another_bound_needs_other_examples(where: str, keyword: str, bound: int) -> None:
    schema = copy.deepcopy(SCHEMA)
    schema["properties"]["spec"]["properties"]["serving"]["properties"][where][keyword] = bound
    assert untried(schema) == [f".spec.serving.{where} {keyword}"]


def test_every_cel_rule_is_broken_by_some_refused_example() -> None:
    written = {
        rule["message"] for _, node in crd_schema.nodes(SCHEMA) for rule in node.get("x-kubernetes-validations", ())
    }
    broken = set()
    for number in range(len(ACCEPTED_AND_REFUSED)):
        for error in why_refused(number):
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
    stated = model.model_json_schema()["properties"]
    for name, info in fields.items():
        child, here, kind = node["properties"][name], f"{path}.{name}", _unwrapped(info.annotation)
        if (
            get_origin(kind) is list
            and isinstance(get_args(kind)[0], type)
            and issubclass(get_args(kind)[0], BaseModel)
        ):
            _compare(get_args(kind)[0], child["items"], f"{here}[]")
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            _compare(kind, child, here)
        if "default" in child and child.get("type") != "object":
            assert info.get_default(call_default_factory=True) == child["default"], here
        elif not info.is_required():
            empty = info.get_default(call_default_factory=True)
            assert empty in (None, [], {}) or isinstance(empty, BaseModel), f"{here}: the CRD has no default"
        _compare_bounds(stated[name], child, here)


BOUNDS = {
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
    "minItems", "maxItems", "minProperties", "maxProperties", "enum",
}  # fmt: skip


def _compare_bounds(stated: dict[str, Any], node: dict[str, Any], path: str) -> None:
    """Compare every bound that a type states with the CRD's; of numbers and enums also all that the CRD states."""
    ways = [way for way in stated.get("anyOf", [stated]) if way.get("type") != "null"]
    bounds = {key: value for way in ways for key, value in way.items() if key in BOUNDS}
    whole = {"enum"} | (BOUNDS if node.get("type") in ("integer", "number") else set())
    wanted = bounds | {key: value for key, value in node.items() if key in whole}
    for key, value in wanted.items():
        assert key in bounds, f"{path}: the type does not state {key} {value}"
        assert key in node, f"{path}: the CRD does not state {key} {value}"
        order = sorted if key == "enum" else str
        assert order(bounds[key]) == order(node[key]), f"{path}: {key}"
    for way in ways:
        for key, here in (("items", "[]"), ("additionalProperties", "{}")):
            if isinstance(way.get(key), dict) and isinstance(node.get(key), dict):
                _compare_bounds(way[key], node[key], f"{path}{here}")


def test_the_operators_types_have_the_same_fields_defaults_enums_and_bounds() -> None:
    _compare(VicunaModelSpec, SPEC, "spec")


DEVIATING = [
    (Annotated[int, Field(ge=1)], {"type": "integer", "minimum": 1}, {"minimum": 2}),
    (Annotated[int, Field(ge=1)] | None, {"type": "integer", "minimum": 1}, {"minimum": 0}),
    (Annotated[int, Field(ge=1)] | None, {"type": "integer", "minimum": 1}, {"maximum": 9}),
    (int | None, {"type": "integer"}, {"minimum": 1}),
    (Annotated[int | None, Field(le=5)], {"type": "integer", "maximum": 5}, {"maximum": 4}),
    (Annotated[Annotated[int, Field(lt=5)] | None, Field(ge=0)],
     {"type": "integer", "exclusiveMaximum": 5, "minimum": 0}, {"minimum": 1}),
    (Annotated[str, Field(max_length=5)] | None, {"type": "string", "maxLength": 5}, {"maxLength": 6}),
    (Annotated[str, StringConstraints(min_length=1, pattern="^a")] | None,
     {"type": "string", "minLength": 1, "pattern": "^a"}, {"pattern": "^b"}),
    (Annotated[str, Field(max_length=5)] | int | None,
     {"x-kubernetes-int-or-string": True, "maxLength": 5}, {"maxLength": 4}),
    (Annotated[list[str], Field(max_length=5)] | None,
     {"type": "array", "items": {"type": "string"}, "maxItems": 5}, {"maxItems": 4}),
    (list[Annotated[str, Field(max_length=5)]] | None,
     {"type": "array", "items": {"type": "string", "maxLength": 5}}, {"items": {"type": "string"}}),
    (Annotated[dict[str, str], Field(max_length=5)] | None,
     {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 5}, {"maxProperties": 4}),
    (dict[str, Annotated[int, Field(ge=5)]] | None,
     {"type": "object", "additionalProperties": {"type": "integer", "minimum": 5}},
     {"additionalProperties": {"type": "integer", "minimum": 4}}),
    (Literal["a", "b"] | None, {"type": "string", "enum": ["a", "b"]}, {"enum": ["a"]}),
    (str | None, {"type": "string"}, {"enum": ["a"]}),
    (list[Literal["a", "b"]] | None,
     {"type": "array", "items": {"type": "string", "enum": ["b", "a"]}},
     {"items": {"type": "string", "enum": ["a", "b", "c"]}}),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "node", "change"), DEVIATING, ids=lambda value: str(value)[:60])
def test_a_bound_that_deviates_is_seen(annotation: Any, node: dict[str, Any], change: dict[str, Any]) -> None:
    part = create_model("Part", __config__=ConfigDict(alias_generator=to_camel), one_field=(annotation, None))
    _compare(part, {"properties": {"oneField": node}}, "spec")
    with pytest.raises(AssertionError, match=r"spec\.oneField"):
        _compare(part, {"properties": {"oneField": node | change}}, "spec")


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
    assert SCHEMA["properties"]["metadata"]["properties"]["name"]["maxLength"] == names.MAX_MODEL_NAME
    described = SCHEMA["properties"]["status"]["properties"]["conditions"]["description"]
    assert all(str(kind) in described for kind in ConditionType)


EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_examples_are_accepted_as_they_stand(file: Path) -> None:
    for body in yaml.safe_load_all(file.read_text()):
        if body["kind"] == names.KIND:
            assert body["apiVersion"] == names.API_VERSION
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
