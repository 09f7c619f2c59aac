"""Write the chart's README from its values.yaml and values.schema.json (make chart-readme).

A value is described by the comment `# -- …` above it, as helm-docs reads it.
"""

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CHART = Path(__file__).resolve().parents[1] / "charts" / "vicuna-operator"
HEAD = """# {name}

{about}

```console
$ helm install vicuna-operator charts/vicuna-operator --namespace vicuna-system --create-namespace
```

[Operations](../../docs/operations.md) has upgrades, monitoring, rights and use without the
Internet; [gateway](../../docs/gateway.md) has keys, limits and network policies.

## Values

This table is made from `values.yaml` and `values.schema.json` by `make chart-readme`. A value that
the schema does not know is refused.

| value | type | default | what it is |
|---|---|---|---|
"""

Schema = dict[str, Any]


class Value(NamedTuple):
    """One value that a user can set."""

    path: str
    default: object
    text: str
    """What it is; empty where nobody wrote it down."""


def readme() -> str:
    """Return the README."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    about = (
        f"{chart['description']}. Chart {chart['version']}, for Kubernetes {chart['kubeVersion'].removesuffix('-0')}."
    )
    head = HEAD.format(name=chart["name"], about=textwrap.fill(about, 100))
    rows = (
        f"| `{value.path}` | {kind(schema, value.path)} | `{json.dumps(value.default)}` | {cell(value.text)} |\n"
        for value in values((CHART / "values.yaml").read_text())
    )
    return head + "".join(rows)


def values(text: str) -> Iterator[Value]:
    """Yield the values of values.yaml in its order, each with its comment."""
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    yield from _below(root, "", text.splitlines())


def _below(node: yaml.MappingNode, path: str, lines: list[str]) -> Iterator[Value]:
    for key, value in node.value:
        name = f"{path}{key.value}"
        text = comment(lines, key.start_mark.line)
        if isinstance(value, yaml.MappingNode) and value.value and not text:
            yield from _below(value, f"{name}.", lines)
        else:
            yield Value(name, yaml.safe_load(yaml.serialize(value)), text)


def comment(lines: list[str], line: int) -> str:
    """Return the comment `# -- …` that ends above a line, in one line; empty where there is none."""
    found: list[str] = []
    while line and (match := re.match(r"\s*# ?(.*)", lines[line - 1])):
        line -= 1
        found.insert(0, match[1])
        if match[1].startswith("-- "):
            return " ".join(found).removeprefix("-- ")
    return ""


def kind(schema: Schema, path: str) -> str:
    """Return what the schema says of a value, in words."""
    node = lookup(schema, path)
    if "enum" in node:
        return ", ".join(f"`{json.dumps(value)}`" for value in node["enum"])
    if "minimum" in node:
        return f"{node['type']}, {node['minimum']} " + (f"to {node['maximum']}" if "maximum" in node else "or more")
    return {"array": "list"}.get(node["type"], str(node["type"]))


def lookup(schema: Schema, path: str) -> Schema:
    """Return the schema of a value, such as `gateway.keys.enabled`.

    Raises:
        KeyError: the schema has no such value.
    """
    node = schema
    for name in path.split("."):
        node = node["properties"][name]
        if "$ref" in node:
            node = schema["definitions"][node["$ref"].rpartition("/")[2]]
    return node


def cell(text: str) -> str:
    """Return a text as it may stand in a table."""
    return text.replace("|", "\\|")


def main() -> int:
    """Write the README."""
    (CHART / "README.md").write_text(readme())
    return 0


if __name__ == "__main__":
    sys.exit(main())
