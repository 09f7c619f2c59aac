"""`oneOf` as `anyOf`, where no value can be valid under two of its schemas: a grammar cannot count.

llguidance does so where the schemas stand there themselves; here references are followed, as in the unions that
pydantic writes, whose members name themselves by a constant.
"""

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

__all__ = ["with_any_of"]

_MOST_STEPS = 8
"""References, and properties within properties, that are followed."""
_TYPES = {
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
    list: "array",
    dict: "object",
}


def with_any_of(schema: Any, whole: Any) -> Any:
    """Return a schema, and all within it, with `anyOf` in place of `oneOf` where that says the same.

    Args:
        schema: A cleaned schema, or a part of one.
        whole: The document that references point into.
    """
    if isinstance(schema, list):
        return [with_any_of(one, whole) for one in schema]
    if not isinstance(schema, dict):
        return schema
    replaced = {}
    for keyword, value in schema.items():
        same = keyword == "oneOf" and "anyOf" not in schema and isinstance(value, list) and _apart(value, whole)
        kept = value if keyword in ("const", "enum") else with_any_of(value, whole)
        replaced["anyOf" if same else keyword] = kept
    return replaced


def _apart(schemas: list[Any], whole: Any) -> bool:
    return all(_disjoint(left, right, whole, _MOST_STEPS) for left, right in combinations(schemas, 2))


def _disjoint(left: Any, right: Any, whole: Any, steps: int) -> bool:
    """Whether it is certain that no value is valid under both."""
    left, right = _followed(left, whole), _followed(right, whole)
    if not (isinstance(left, dict) and isinstance(right, dict)) or steps == 0:
        return False
    if _nothing_in_common(_kinds(left), _kinds(right)) or _nothing_in_common(_values(left), _values(right)):
        return True
    if not (_kinds(left) == _kinds(right) == frozenset({"object"})):
        return False
    return any(_disjoint(one, other, whole, steps - 1) for one, other in _both_required(left, right))


def _nothing_in_common(left: frozenset[str] | None, right: frozenset[str] | None) -> bool:
    return left is not None and right is not None and not left & right


def _both_required(left: dict[str, Any], right: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    for name, one in left.get("properties", {}).items():
        if name in right.get("properties", {}) and all(name in _names(side.get("required")) for side in (left, right)):
            yield one, right["properties"][name]


def _names(required: Any) -> list[Any]:
    return required if isinstance(required, list) else []


def _values(schema: dict[str, Any]) -> frozenset[str] | None:
    """Return the values that it names, as texts that are equal where they are; None: it names none."""
    if "const" in schema:
        return frozenset({_text(schema["const"])})
    named = schema.get("enum")
    return frozenset(map(_text, named)) if isinstance(named, list) else None


def _text(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value, sort_keys=True)


def _kinds(schema: dict[str, Any]) -> frozenset[str] | None:
    """Return the types that it allows, "integer" as "number"; None: it does not say."""
    stated = schema.get("type")
    if isinstance(stated, str):
        stated = [stated]
    if isinstance(stated, list):
        return frozenset("number" if kind == "integer" else str(kind) for kind in stated)
    named = [schema["const"]] if "const" in schema else schema.get("enum")
    return frozenset(_TYPES[type(value)] for value in named) if isinstance(named, list) else None


def _followed(schema: Any, whole: Any) -> Any:
    """Return what a reference points to, with the last of several; None where it is not plain to see."""
    for _ in range(_MOST_STEPS):
        if not isinstance(schema, dict) or "$ref" not in schema:
            return schema
        schema = _pointed_to(schema["$ref"], whole)
    return None


def _pointed_to(reference: Any, whole: Any) -> Any:
    place = whole
    for part in str(reference).removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(place, dict) or name not in place:
            return None
        place = place[name]
    return place
