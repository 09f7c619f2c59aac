"""Pages that are made from a schema: each is what its script makes now, and nothing in it is undescribed."""

import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from support import crd_schema

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "hack" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CRDS, CHART = script("crd_reference"), script("chart_readme")
VALUES = list(CHART.values((CHART.CHART / "values.yaml").read_text()))


@cache
def pages() -> dict[Path, str]:
    made: dict[Path, str] = CRDS.pages()
    return made


def test_the_reference_is_that_of_the_crds() -> None:
    found = {path: path.read_text() for path in sorted((ROOT / "docs" / "reference").glob("*.md"))}
    assert found == {path: text.rstrip("\n") + "\n" for path, text in pages().items()}, "run `make crd-reference`"


@pytest.mark.parametrize("plural", ["vicunamodels", "vicunausages"])
def test_the_reference_names_every_field_or_its_parent(plural: str) -> None:
    text = next(text for path, text in pages().items() if path.stem == plural.removesuffix("s"))
    for path, node in crd_schema.nodes(crd_schema.schema(plural)):
        *_, field = path.split(".")
        if "description" in node and field.isalpha():
            assert re.search(rf"(`|[.]|^## ){field}(`|$)", text, flags=re.MULTILINE), path


def test_the_reference_has_types_bounds_defaults_and_rules() -> None:
    text = pages()[ROOT / "docs" / "reference" / "vicunamodel.md"]
    assert "| `base.source` (required) | string | 1 to 512 characters |  | hf://ORG/NAME" in text
    assert "| `numGpus` | integer | 0 to 16 | `1` | GPUs of each replica" in text
    assert "| `strategy`" not in text, "a field below another has its whole path"
    assert '| `rollout.strategy` | string | `Auto`, `Surge`, `Drain`, `Recreate` | `"Auto"` |' in text
    assert "| give value or valueFrom, not both | `spec.merge.env[].valueFrom` |" in text


def test_the_charts_readme_is_that_of_its_values() -> None:
    assert (CHART.CHART / "README.md").read_text() == CHART.readme(), "run `make chart-readme`"


def test_every_chart_value_is_described_and_in_the_schema() -> None:
    schema = json.loads((CHART.CHART / "values.schema.json").read_text())
    for value in VALUES:
        assert value.text, f"{value.path}: say above it in values.yaml what it is (`# -- …`)"
        assert CHART.lookup(schema, value.path)


def test_every_value_of_the_schema_is_in_values_yaml() -> None:
    """So the README has all there is; `global` belongs to helm."""
    schema = json.loads((CHART.CHART / "values.schema.json").read_text())
    paths = {value.path for value in VALUES}

    def leaves(path: str) -> list[str]:
        node = CHART.lookup(schema, path)
        if path in paths or "properties" not in node:
            return [path]
        return [leaf for name in node["properties"] for leaf in leaves(f"{path}.{name}")]

    assert {leaf for name in schema["properties"] for leaf in leaves(name)} - {"global"} == paths


def test_a_value_without_a_comment_is_seen() -> None:
    text = (
        "# -- Of a.\na:\n  # Not a description.\n  b: 1\nc: 1  # -- nor this\nd:\n  # -- Two\n  # lines.\n  e: {f: 1}\n"
    )
    assert [tuple(value) for value in CHART.values(text)] == [
        ("a", yaml.safe_load("b: 1"), "Of a."),
        ("c", 1, ""),
        ("d.e", {"f": 1}, "Two lines."),
    ]
