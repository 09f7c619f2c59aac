"""What an API server would refuse in a VicunaModel by its definition (CRD), so that a local run refuses it too.

The definition itself is the list: `vicunamodels.yaml` beside this module is the file that is installed in clusters.
Rules across fields (CEL) are not read from it: `api.model` states them in code. Patterns mean the same in both
languages; a test keeps them to that.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from vicuna_operator.errors import Fault

__all__ = ["faults", "without_nulls"]

Schema = Mapping[str, Any]

_TYPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "object": ("an object", lambda value: isinstance(value, Mapping)),
    "array": ("a list", lambda value: isinstance(value, list)),
    "string": ("text; put it in quotes", lambda value: isinstance(value, str)),
    "boolean": ("true or false, without quotes", lambda value: isinstance(value, bool)),
    "integer": ("a whole number, without quotes", lambda value: _is_whole(value)),
}


@cache
def _definition() -> Schema:
    import yaml  # late: --help needs none

    crd = yaml.safe_load(files(__package__).joinpath("vicunamodels.yaml").read_text(encoding="utf-8"))
    (version,) = crd["spec"]["versions"]
    spec: Schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return spec


def without_nulls(value: Any) -> Any:
    """Drop members that are null, as an API server does: the default takes their place."""
    if isinstance(value, Mapping):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def faults(spec: Any) -> Iterator[Fault]:
    """Yield everything in a spec that the definition does not allow."""
    return _faults(spec, _definition(), "spec")


def _faults(value: Any, node: Schema, path: str) -> Iterator[Fault]:
    kinds = [_TYPES[way["type"]] for way in node.get("anyOf", [node])]
    if not any(is_one(value) for _, is_one in kinds):
        yield Fault(path, f"{value!r} must be {' or '.join(words for words, _ in kinds)}")
        return
    yield from (Fault(path, message) for message in _bounds(value, node))
    if isinstance(value, Mapping):
        yield from _members(value, node, path)
    elif isinstance(value, list):
        yield from _repeated(value, node, path)
        for index, item in enumerate(value):
            yield from _faults(item, node["items"], f"{path}[{index}]")


def _members(value: Mapping[str, Any], node: Schema, path: str) -> Iterator[Fault]:
    for name in node.get("required", ()):
        if name not in value:
            yield Fault(f"{path}.{name}", "is missing")
    known, other = node.get("properties", {}), node.get("additionalProperties")
    for name, item in value.items():
        child = known.get(name, other)
        if isinstance(child, Mapping):
            yield from _faults(item, child, f"{path}.{name}")
        else:
            yield Fault(f"{path}.{name}", f"this field does not exist; {_next_step(name, known)}")


def _next_step(name: str, known: Iterable[str]) -> str:
    similar = get_close_matches(str(name), known, n=1)
    return f"did you mean {similar[0]}?" if similar else "remove it or correct its name"


def _repeated(value: list[Any], node: Schema, path: str) -> Iterator[Fault]:
    """Yield the entries of a list whose key members are not unique."""
    keys = node.get("x-kubernetes-list-map-keys", ())
    seen: set[tuple[str, ...]] = set()
    for index, item in enumerate(value if keys else ()):
        mark = tuple(str(item.get(key)) for key in keys) if isinstance(item, Mapping) else ()
        if mark in seen:
            yield Fault(f"{path}[{index}]", f"{', '.join(mark)} is there twice; remove one")
        seen.add(mark)


def _bounds(value: Any, node: Schema) -> Iterator[str]:
    if "enum" in node and value not in node["enum"]:
        yield f"{value!r} must be one of {', '.join(map(str, node['enum']))}"
    if isinstance(value, str) and "pattern" in node and not _matches(node["pattern"], value):
        yield f"{value[:80]!r} is not of the form {node['pattern']}: {node.get('description', '')}".removesuffix(": ")
    if not isinstance(value, bool):
        yield from _sizes(value, node)


def _sizes(value: Any, node: Schema) -> Iterator[str]:
    suffix, unit = _SIZES.get(type(value), ("imum", ""))
    size = len(value) if unit else value
    if size < node.get(f"min{suffix}", size):
        yield f"must be at least {node[f'min{suffix}']}{unit}, and is {size}"
    if size > node.get(f"max{suffix}", size):
        yield f"must be at most {node[f'max{suffix}']}{unit}, and is {size}"


_SIZES: Mapping[type, tuple[str, str]] = {
    str: ("Length", " characters"),
    list: ("Items", " entries"),
    dict: ("Properties", " entries"),
}


def _matches(pattern: str, text: str) -> bool:
    """Match as Go does: Python's `$` would also match before a newline at the end of the text."""
    return re.search(pattern.removesuffix("$") + r"\Z", text, re.ASCII) is not None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
