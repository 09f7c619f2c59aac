"""JSON Schema (draft 2020-12) as the grammar library enforces it: what it would not enforce is refused.

Which keywords llguidance enforces was tried out with 1.9 and 1.7 (`tests/unit/serve/test_grammar_schema.py`): it
refuses what it knows and cannot do, but ignores what it does not know, such as a keyword that is spelled wrongly.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vicuna_server.engine.grammar.one_of import with_any_of

__all__ = ["FORMATS", "MOST_DEPTH", "MOST_LETTERS", "SchemaError", "cleaned", "subschemas"]

MOST_LETTERS = 256 * 1024
"""Of a schema's JSON text."""
MOST_DEPTH = 64
"""Objects and arrays within each other, as vLLM has it."""

_FORMAT_NAMES = "date date-time duration email hostname ipv4 ipv6 time uri uuid"
FORMATS = frozenset(_FORMAT_NAMES.split())
_NUMBER_FORMATS = frozenset({"int32", "int64", "uint32", "uint64", "float", "double"})
"""Of OpenAPI, beside type integer or number: they say how a program stores it."""

_ONE = frozenset({"items", "additionalProperties", "additionalItems"})
_SEVERAL = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_VALUE_NAMES = (
    "type const enum minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern format "
    "minItems maxItems minProperties maxProperties required $ref $anchor"
)
_VALUES = frozenset(_VALUE_NAMES.split())
_ANNOTATION_NAMES = (
    "$schema $comment $vocabulary title description default examples example deprecated readOnly writeOnly "
    "contentEncoding contentMediaType contentSchema discriminator externalDocs xml"
)
_ANNOTATIONS = frozenset(_ANNOTATION_NAMES.split())
_HINTS = {
    "uniqueItems": "a grammar cannot compare the items of an array; leave it out",
    "nullable": 'write "type": ["string", "null"] or the like',
    "not": "say what is allowed, not what is not",
    "divisibleBy": "the keyword is called multipleOf",
    "$recursiveRef": 'write "$ref": "#"',
    "$dynamicRef": 'write "$ref": "#/$defs/NAME"',
}
_NO_EFFECT = frozenset({"uniqueItems", "nullable"})
"""Where they are false."""


class SchemaError(ValueError):
    """A schema cannot be honoured.

    Args:
        path: Keys and indices to the place, from the schema's root.
        why: What is wrong, and the next step.
    """

    def __init__(self, path: tuple[str | int, ...], why: str) -> None:
        super().__init__(why)
        self.path = path
        self.why = why


def cleaned(schema: object) -> Any:
    """Return a schema without what changes nothing.

    Objects that name properties, and do not say whether others may come, are closed: a model would go on with names
    of its own. Where schemas are intersected they stay as they are, since each would forbid the other's properties.

    Raises:
        SchemaError: It has a keyword that would not be enforced, or is nested too deeply.
    """
    whole = _clean(schema, ())
    whole = with_any_of(whole, whole)
    return whole if any(map(_intersects, _all(whole))) else _closed(whole)


def subschemas(schema: object) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield path and schema of all schemas within a cleaned one, inner ones first, the whole last."""
    yield from _walk(schema, ())


def _clean(schema: object, path: tuple[str | int, ...]) -> Any:
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict):
        raise SchemaError(path, "a schema is an object, true or false")
    if len(path) >= MOST_DEPTH:
        raise SchemaError(path, f"nested too deeply, {MOST_DEPTH} levels are the most; flatten it")
    kept = {}
    for keyword, value in schema.items():
        place = (*path, keyword)
        if keyword in _ONE | _SEVERAL | _NAMED:
            kept[keyword] = _clean_parts(keyword, value, place)
        elif keyword in _VALUES:
            if keyword != "format" or _check_format(schema, place):
                kept[keyword] = _checked_value(keyword, value, place)
        else:
            _check_changes_nothing(keyword, value, place)
    return kept


def _clean_parts(keyword: str, value: object, path: tuple[str | int, ...]) -> Any:
    if keyword in _NAMED:
        return {name: _clean(one, (*path, name)) for name, one in _object(value, path).items()}
    if keyword in _SEVERAL or isinstance(value, list):
        return [_clean(one, (*path, index)) for index, one in enumerate(_list(value, path))]
    return _clean(value, path)


def _check_changes_nothing(keyword: str, value: object, path: tuple[str | int, ...]) -> None:
    if path == ("$id",):
        return  # of the whole: references from elsewhere are not followed
    if keyword in _ANNOTATIONS or keyword.startswith("x-") or (keyword in _NO_EFFECT and value is False):
        return
    raise SchemaError(path, _HINTS.get(keyword, "this keyword is not supported; leave it out"))


def _list(value: object, path: tuple[str | int, ...]) -> list[Any]:
    if not isinstance(value, list):
        raise SchemaError(path, "must be an array of schemas")
    return value


def _object(value: object, path: tuple[str | int, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SchemaError(path, "must be an object of schemas by name")
    return value


def _checked_value(keyword: str, value: object, path: tuple[str | int, ...]) -> object:
    if keyword == "$ref" and not (isinstance(value, str) and value.startswith("#")):
        raise SchemaError(path, 'only references within the schema are followed, such as "#/$defs/NAME"')
    if _depth(value) > MOST_DEPTH:
        raise SchemaError(path, f"nested too deeply, {MOST_DEPTH} levels are the most; flatten it")
    return value


def _check_format(schema: Mapping[str, object], path: tuple[str | int, ...]) -> bool:
    """Return whether a `format` is enforced; False: it says nothing of the text."""
    name, kind = schema["format"], schema.get("type")
    if name in _NUMBER_FORMATS and kind in ("integer", "number"):
        return False
    if name not in FORMATS:
        raise SchemaError(path, f"{name!r:.40} is not supported; use one of {', '.join(sorted(FORMATS))}, or a pattern")
    return True


def _depth(value: object) -> int:
    """Return how deeply arrays and objects are nested, without recursion; no more than one above the most."""
    level, depth = [value], 0
    while level and depth <= MOST_DEPTH:
        level = [
            one
            for part in level
            if isinstance(part, dict | list)
            for one in (part.values() if isinstance(part, dict) else part)
        ]
        depth += bool(level)
    return depth


def _walk(schema: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(schema, dict):
        for keyword, value in schema.items():
            for step, one in _parts(keyword, value):
                yield from _walk(one, (*path, keyword, *step))
    yield path, schema


def _parts(keyword: str, value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the schemas directly within a keyword, and the way to each from it."""
    if keyword in _NAMED:
        yield from (((name,), one) for name, one in value.items())
    elif keyword in _SEVERAL or (keyword in _ONE and isinstance(value, list)):
        yield from (((index,), one) for index, one in enumerate(value))
    elif keyword in _ONE:
        yield (), value


def _all(schema: Any) -> Iterator[Any]:
    return (one for _, one in subschemas(schema))


def _intersects(schema: Any) -> bool:
    """Whether a schema is the intersection of several that may each name properties."""
    applied = {"allOf", "anyOf", "oneOf", "$ref"} & set(schema) if isinstance(schema, dict) else set()
    return "allOf" in applied or (
        bool(applied) and (len(applied) > 1 or bool({"properties", "required"} & set(schema)))
    )


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    closed = {keyword: _closed_parts(keyword, value) for keyword, value in schema.items()}
    if "properties" in schema and not {"additionalProperties", "patternProperties"} & set(schema):
        closed["additionalProperties"] = False
    return closed


def _closed_parts(keyword: str, value: Any) -> Any:
    if keyword in _NAMED:
        return {name: _closed(one) for name, one in value.items()}
    if keyword in _SEVERAL or (keyword in _ONE and isinstance(value, list)):
        return [_closed(one) for one in value]
    return _closed(value) if keyword in _ONE else value
