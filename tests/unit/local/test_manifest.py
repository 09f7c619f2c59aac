"""A manifest that cannot be run says which file, which line or which field."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from support import crd_schema
from support.amount import one_of_five
from support.crd_examples import ACCEPTED_AND_REFUSED, HEX, MINIMAL, with_value
from vicuna_operator.errors import LocalRunError
from vicuna_operator.local.manifest import read_model

GOOD = """
apiVersion: vicuna.dev/v1alpha1
kind: VicunaModel
metadata: {name: demo}
spec:
  weights: {base: {source: "file:///weights/base"}}
"""


def read(tmp_path: Path, text: str) -> LocalRunError:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(LocalRunError) as caught:
        read_model(path)
    assert str(path) in str(caught.value)
    return caught.value


def test_other_objects_of_the_file_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(f"kind: ConfigMap\n---{GOOD}---\n")
    assert read_model(path).name == "demo"


def test_a_merged_key_may_be_stated_again(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(GOOD.replace("{source:", "{<<: {source: file:///other}, source:"))
    assert read_model(path).name == "demo"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(LocalRunError, match=r"cannot be read: .*; name a file with one VicunaModel") as caught:
            read_model(path)
        assert caught.value.exit_code == 66


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "line"),
        ("", "holds no object of kind VicunaModel, since it is empty; put exactly one into it"),
        ("kind: Deployment", "no object of kind VicunaModel, but one of kind Deployment; put"),
        (GOOD.replace("VicunaModel", "vicunamodel"), "but one of kind vicunamodel"),
        (
            "kind: List\n---\n- a\n---\nb\n---\na: 1",
            "of kind List, a list, plain text, an object without kind; put",
        ),
        (GOOD + "  weights: {}\n", "line 7 is not valid YAML: the key weights is there twice"),
        (GOOD.replace("{source:", "{source: a, source:"), "line 6 is not valid YAML: the key source is there twice"),
        (f"{GOOD}---{GOOD}", "2 objects of kind VicunaModel"),
        (GOOD.replace("v1alpha1", "v9"), "apiVersion"),
        (GOOD.replace("{name: demo}", "{}"), "metadata.name: is missing; it must be at most 40"),
        (GOOD.replace("source:", "sauce:"), "spec.weights.base"),
        (GOOD + "  servnig: {}\n", "spec.servnig"),
        (GOOD + "  serving: {replicas: many}\n", "spec.serving.replicas"),
    ],
)
def test_wrong_manifests_name_the_place(tmp_path: Path, text: str, words: str) -> None:
    error = read(tmp_path, text)
    assert words in str(error)
    assert error.exit_code == 65


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    error = read(
        tmp_path,
        """
apiVersion: vicuna.dev/v1
kind: VicunaModel
metadata: {name: Demo, generation: first}
spec:
  storage: {size: lots}
  serving: {replica: 2, env: [all, {name: A, value: x, valueFrom: {}}]}
""",
    )
    first, *others = str(error).splitlines()
    assert first.endswith("model.yaml: 7 fields are wrong; correct them and run it again:")
    assert [line.strip().partition(": ")[0] for line in others] == [
        "apiVersion",
        "metadata.name",
        "spec.weights",
        "spec.storage.size",
        "spec.serving.env[0]",
        "spec.serving.replica",
        "spec.serving.env[1].valueFrom",
    ]
    assert "expected vicuna.dev/v1alpha1" in str(error)
    assert "spec.serving.replica: this field does not exist; did you mean replicas?" in str(error)


def test_a_rule_is_told_beside_a_misspelt_field_of_the_same_object(tmp_path: Path) -> None:
    error = read(tmp_path, GOOD.replace('base"}', 'base", revision: main, digst: x}'))
    assert "spec.weights.base.revision: only hf:// sources have revisions" in str(error)
    assert "spec.weights.base.digst: this field does not exist; did you mean digest?" in str(error)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("spec: {}", "spec.weights: is missing; give a source such as hf://ORG/NAME"),
        ("spec:", "spec: found None; expected an object"),
    ],
)
def test_a_spec_without_weights_is_told_what_to_give(tmp_path: Path, spec: str, told: str) -> None:
    assert told in str(read(tmp_path, GOOD.partition("spec:")[0] + spec))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalRunError, match="No such file") as caught:
        read_model(tmp_path / "absent.yaml")
    assert caught.value.exit_code == 66


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(LocalRunError, match="UTF-8"):
        read_model(path)


# ---- a laptop refuses what a cluster refuses ----


def taken(tmp_path: Path, body: dict[str, Any]) -> str:
    """Return why `up` refuses an object; empty where it takes it."""
    path = tmp_path / "model.json"
    path.write_text(json.dumps(body))
    try:
        read_model(path)
    except LocalRunError as error:
        return str(error)
    return ""


def test_the_definition_is_the_one_in_crds() -> None:
    copied = Path(read_model.__code__.co_filename).with_name("vicunamodels.yaml")
    assert copied.read_bytes() == (crd_schema.CRDS / "vicunamodels.yaml").read_bytes(), "make chart-crd copies it"


LOCAL_ALONE: list[tuple[str, Any]] = [
    ("spec.weights.base.source", "file:///a"),
    ("spec.weights.adapters", [{"source": "file:///a"}]),
]
LOCAL_ALONE += [("spec.storage", {})]


# All of them are tried in make unit by tests/unit/test_crd.py, on the same definition.
@pytest.mark.parametrize(("path", "good", "bad"), one_of_five(ACCEPTED_AND_REFUSED), ids=lambda value: str(value)[:40])
def test_each_constraint_of_the_definition_holds_here_too(tmp_path: Path, path: str, good: Any, bad: Any) -> None:
    body = with_value(path, good)
    spec = crd_schema.pruned(
        body["spec"], crd_schema.schema()["properties"]["spec"]
    )  # examples state more than is known
    assert taken(tmp_path, {**body, "spec": spec}) == ""
    refused = taken(tmp_path, with_value(path, bad))
    assert bool(refused) != ((path, bad) in LOCAL_ALONE)
    if refused and not path.startswith("metadata"):
        assert path.replace("[]", "[0]").replace("{}", ".k").rpartition(".")[0] in refused


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.serving.replicas", "2"),
        ("spec.serving.replicas", True),
        ("spec.serving.replicas", 1.5),
        ("spec.suspend", 1),
        ("spec.suspend", "true"),
        ("spec.serving.env", [{"name": "A"}, {"name": "A", "value": "x"}]),
        ("spec.serving.imagePullSecrets", [{"name": "a"}, {"name": "a"}]),
        ("spec.serving.env", [{"name": "A=B", "value": "x"}]),
        ("spec.merge.env", [{"name": "A", "value": "", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}]),
        ("spec.serving.podLabels", {"a": 1}),
        ("spec.storage.size", "1.Gi"),
        ("spec.storage.size", "0Gi"),
        ("spec.storage.size", 0),
        ("spec.serving.maxGpuMemory", "0"),
        ("spec.weights.base.source", "hf://a/b/"),
        ("spec.weights.base.source", "hf://a/b\u00e9"),
        ("spec.weights.base.source", "hf://a/b\n"),
        ("spec.weights.base.digest", "sha256:" + HEX),
        ("spec.weights.adapters", [{"source": "pvc://c"}]),
        ("spec.serving.tolerations", ["all"]),
        ("spec.serving.tolerations", [{"kind": "x"}]),
        ("spec.serving.resources", {"limits": {"cpu": None}, "claim": []}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_cluster_refuses_is_refused(tmp_path: Path, path: str, value: Any) -> None:
    said = taken(tmp_path, with_value(path, value))
    assert path in said


@pytest.mark.parametrize("path", ["spec.serving", "spec.merge", "spec.serving.numGpus", "spec.weights.delta"])
def test_a_null_is_an_absent_field(tmp_path: Path, path: str) -> None:
    assert taken(tmp_path, with_value(path, None)) == ""


def test_whole_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    assert taken(tmp_path, with_value("spec.serving.replicas", 2.0)) == ""


def test_a_spec_that_is_not_an_object(tmp_path: Path) -> None:
    body = copy.deepcopy(MINIMAL)
    nothing: tuple[object, ...] = (None, [], "x")
    for spec in nothing:
        assert taken(tmp_path, {**body, "spec": spec})


@pytest.mark.parametrize("field", ["storage.size", "serving.maxGpuMemory"])
def test_the_definition_says_that_a_size_is_more_than_zero(field: str) -> None:
    part, name = field.split(".")
    node = crd_schema.schema()["properties"]["spec"]["properties"][part]["properties"][name]
    assert "more than zero" in node["description"]
