"""Write the reference of each kind of `crds/` into docs/reference/ (make crd-reference).

One table per top-level field: path, type, default, description and bounds. What has no description below a field, such
as Kubernetes' own affinity, is named and not spelt out.
"""

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
HEAD = "`{version}`, {scope}. {description}"
MADE = "This page is made from `crds/{file}` by `make crd-reference`."
# What minX and maxX of the schema count.
UNITS = {"imum": "", "Length": " characters", "Items": " entries", "Properties": " entries"}
TOP = "apiVersion", "kind", "metadata"

Node = dict[str, Any]


def pages() -> dict[Path, str]:
    """Return each page's path and text."""
    return {FOLDER / file.name.replace("s.yaml", ".md"): page(file) for file in sorted((ROOT / "crds").glob("*.yaml"))}


def page(file: Path) -> str:
    """Return the reference of one CRD."""
    spec = yaml.safe_load(file.read_text())["spec"]
    (version,) = spec["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    head = HEAD.format(
        version=f"{spec['group']}/{version['name']}",
        scope="namespaced" if spec["scope"] == "Namespaced" else "of the cluster",
        description=schema["description"],
    )
    parts = [part for title, node in sections(schema) for part in section(title, node)]
    return "\n".join(
        [f"# {spec['names']['kind']}\n\n{wrapped(head)}\n\n{MADE.format(file=file.name)}\n", *printed(version), *parts]
    )


def printed(version: Node) -> Iterator[str]:
    """Yield the table of the columns that `kubectl get` prints."""
    yield "## kubectl get\n\n| column | what it is | where it is |\n|---|---|---|"
    for column in version["additionalPrinterColumns"]:
        wide = " (with `-o wide`)" if column.get("priority") else ""
        yield f"| {column['name']} | {column.get('description', column['type'])}{wide} | `{column['jsonPath']}` |"
    yield ""


def sections(schema: Node) -> Iterator[tuple[str, Node]]:
    """Yield title and schema of what gets a table of its own: each object of spec, status, the rest together."""
    rest = without(schema["properties"], TOP)
    if "spec" in rest:
        spec = rest.pop("spec")
        objects = {name: node for name, node in spec["properties"].items() if "properties" in node}
        yield "spec", {**spec, "properties": without(spec["properties"], objects)}
        yield from ((f"spec.{name}", node) for name, node in objects.items())
    if "status" in rest:
        yield "status", rest.pop("status")
    if rest:
        yield "Fields", {"description": "Beside `metadata`:", "properties": rest}


def without(properties: Node, names: Iterable[str]) -> Node:
    """Return the properties other than those named."""
    left_out = set(names)
    return {name: node for name, node in properties.items() if name not in left_out}


def section(title: str, node: Node) -> Iterator[str]:
    """Yield the heading, the table and the rules of one part of the schema."""
    yield f"## {title}\n\n{wrapped(node['description'])}\n"
    yield "| field | type | allowed | default | what it is |\n|---|---|---|---|---|"
    yield from fields(node)
    yield ""
    rules = list(ruled(node))
    if rules:
        yield "| rule | of |\n|---|---|"
        yield from (f"| {cell(message)} | `{title}{path}` |" for path, message in rules)
        yield ""


def fields(node: Node, path: str = "") -> Iterator[str]:
    """Yield a row for each field below a node, in the schema's order."""
    for name, child in node.get("properties", {}).items():
        where = f"{path}{name}"
        yield row(where, child, required=name in node.get("required", ()))
        inner = child.get("items", child)
        if described(inner):
            yield from fields(inner, f"{where}[]." if "items" in child else f"{where}.")


def row(where: str, node: Node, *, required: bool) -> str:
    """Return the row of one field."""
    default = f"`{json.dumps(node['default'])}`" if "default" in node else ""
    what = node.get("description", "")
    inner = node.get("items", node)
    if "properties" in inner and not described(inner):
        what = f"{what.rstrip('.')}. Fields: " + ", ".join(f"`{name}`" for name in inner["properties"])
    name = f"`{where}`{' (required)' if required else ''}"
    return f"| {name} | {kind(node)} | {allowed(node)} | {default} | {cell(what).removesuffix('.')} |"


def allowed(node: Node) -> str:
    """Return the values that a field takes, where the schema says so."""
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    for name, unit in UNITS.items():
        least, most = node.get(f"min{name}", 0), node.get(f"max{name}")
        if most is not None:
            return f"{least} to {most}{unit}" if f"min{name}" in node else f"up to {most}{unit}"
        if f"min{name}" in node:
            return f"{least}{unit} or more"
    return str(node["format"]) if node.get("type") == "string" and "format" in node else ""


def kind(node: Node) -> str:
    """Return a node's type in words."""
    if "items" in node:
        return f"list of {kind(node['items'])}"
    if isinstance(node.get("additionalProperties"), dict):
        return f"map to {kind(node['additionalProperties'])}"
    return "integer or string" if "anyOf" in node else str(node["type"])


def described(node: Node) -> bool:
    """Return whether any field below a node has a description."""
    children = node.get("properties", {}).values()
    return any("description" in child or described(child.get("items", child)) for child in children)


def ruled(node: Node, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield place and message of every rule (CEL) of a node and below."""
    for rule in node.get("x-kubernetes-validations", ()):
        yield path + rule.get("fieldPath", ""), rule["message"]
    for name, child in node.get("properties", {}).items():
        yield from ruled(child.get("items", child), f"{path}.{name}{'[]' if 'items' in child else ''}")


def cell(text: str) -> str:
    """Return a text as it may stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def wrapped(text: str) -> str:
    """Return a text in lines of the documents' width."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def main() -> int:
    """Write the pages; one whose kind is gone is removed."""
    made = pages()
    FOLDER.mkdir(exist_ok=True)
    for path in set(FOLDER.glob("vicuna*.md")) - set(made):
        path.unlink()
    for path, text in made.items():
        path.write_text(text.rstrip("\n") + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
