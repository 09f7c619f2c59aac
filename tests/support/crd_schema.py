"""What an API server does with an object of a CRD, as far as the tests need it: default, then validate, then CEL."""

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cel
import jsonschema
import yaml

CRDS = Path(__file__).resolve().parents[2] / "crds"
INT_OR_STRING = "x-kubernetes-int-or-string"

# libyaml's is ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Schema = dict[str, Any]


@cache
def crd(plural: str = "vicunamodels") -> dict[str, Any]:
    """Read the CRD."""
    found: dict[str, Any] = yaml.load((CRDS / f"{plural}.yaml").read_text(), _LOADER)
    return found


def schema(plural: str = "vicunamodels") -> Schema:
    """Return the schema of the one version."""
    (version,) = crd(plural)["spec"]["versions"]
    found: Schema = version["schema"]["openAPIV3Schema"]
    return found


def nodes(node: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Walk a structural schema: every node with its path (`[]` for items, `{}` for map values)."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


def defaulted(value: Any, node: Schema) -> Any:
    """Fill in defaults from the outside in, as structural defaulting does; returns a copy."""
    if isinstance(value, dict):
        return _defaulted_object(value, node)
    if isinstance(value, list) and "items" in node:
        return [defaulted(item, node["items"]) for item in value]
    return copy.deepcopy(value)


def _defaulted_object(value: dict[str, Any], node: Schema) -> dict[str, Any]:
    if isinstance(node.get("additionalProperties"), dict):
        return {name: defaulted(item, node["additionalProperties"]) for name, item in value.items()}
    known = node.get("properties", {})
    missing = {name: child["default"] for name, child in known.items() if name not in value and "default" in child}
    return {name: defaulted(item, known.get(name, {})) for name, item in {**value, **missing}.items()}


def pruned(value: Any, node: Schema) -> Any:
    """Drop fields that the schema does not know; returns a copy."""
    if isinstance(value, dict) and isinstance(node.get("additionalProperties"), dict):
        return {name: pruned(item, node["additionalProperties"]) for name, item in value.items()}
    if isinstance(value, dict) and node.get("type") == "object":
        known = node.get("properties", {})
        return {name: pruned(item, known[name]) for name, item in value.items() if name in known}
    if isinstance(value, list):
        return [pruned(item, node["items"]) for item in value]
    return value


def schema_errors(value: Any, node: Schema) -> list[str]:
    """Return the paths of what the schema alone refuses, with the reason."""
    validator = jsonschema.Draft4Validator(node)
    return [f"{error.json_path.removeprefix('$')}: {error.message}" for error in validator.iter_errors(value)]


@cache
def _program(rule: str) -> cel.Program:
    return cel.compile(rule)


def cel_errors(value: Any, node: Schema, path: str = "") -> list[str]:
    """Return `path: message` for every CEL rule that a (defaulted) value breaks."""
    errors = [
        f"{path}{rule.get('fieldPath', '')}: {rule['message']}"
        for rule in node.get("x-kubernetes-validations", ())
        if _program(rule["rule"]).execute({"self": value}) is not True
    ]
    if isinstance(value, dict):
        for name, item in value.items():
            child = node.get("properties", {}).get(name) or node.get("additionalProperties")
            if isinstance(child, dict):
                errors += cel_errors(item, child, f"{path}.{name}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            errors += cel_errors(item, node["items"], f"{path}[{index}]")
    return errors


def admit(body: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the object as it would be stored, and why it would be refused."""
    body = {key: value for key, value in body.items() if key not in ("apiVersion", "kind")}
    metadata, rest = body.get("metadata", {}), {key: value for key, value in body.items() if key != "metadata"}
    stored = {"metadata": metadata} | defaulted(pruned(rest, schema()), schema())
    return stored, schema_errors(stored, schema()) + cel_errors(stored, schema())
