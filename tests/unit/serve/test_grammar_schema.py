"""JSON Schema as a grammar: what is enforced, what is refused and where, and what changes nothing."""

import json
from typing import Any

import pytest

from support.schemas import SCHEMAS
from vicuna_server.constraints import JsonSchema
from vicuna_server.engine.grammar.matching import byte_tokenizer, make_matcher
from vicuna_server.engine.grammar.process import grammar_of
from vicuna_server.engine.grammar.schema import FORMATS, MOST_DEPTH, MOST_LETTERS, SchemaError, cleaned

FIELD = "response_format.json_schema.schema"


def grammar(schema: Any) -> dict[str, Any]:
    return grammar_of(JsonSchema(json.dumps(schema), FIELD))


def allows(schema: Any, value: Any) -> bool:
    made = grammar(schema)
    assert "text" in made, made
    matcher = make_matcher(byte_tokenizer(), made["text"])
    text = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
    return matcher.try_consume_tokens(list(text)) == len(text) and matcher.is_accepting()


def typed(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


ONE = {"const": 1}
ENFORCED: list[tuple[dict[str, Any], Any, Any]] = [
    (typed("string"), '"1"', 1),
    ({"const": {"a": [1, None]}}, {"a": [1, None]}, {"a": [1]}),
    ({"enum": ["a", 2, None]}, None, "b"),
    (typed("integer", minimum=-5, maximum=5), -5, 6),
    (typed("integer", exclusiveMinimum=0, exclusiveMaximum=3), 2, 3),
    (typed("number", minimum=0.5), 0.75, 0.25),
    (typed("integer", minimum=5, exclusiveMinimum=True), 6, 5),  # as in draft 4
    (typed("integer", multipleOf=5), 10, 7),
    (typed("number", multipleOf=0.1), 0.3, 0.25),
    (typed("string", minLength=2, maxLength=3), '"äö"', '"a"'),
    (typed("string", pattern="^a[0-9]+$"), '"a12"', '"a"'),
    (typed("string", pattern="b"), '"abc"', '"ac"'),
    (typed("string", format="date"), '"2024-02-29"', '"2024-2-9"'),
    (typed("array", items=ONE, minItems=1, maxItems=2), [1, 1], [1, 1, 1]),
    (typed("array", prefixItems=[ONE, {"const": 2}], items=False), [1, 2], [1, 3]),
    (typed("array", items=[ONE], additionalItems=False), [1], [1, 1]),  # as in draft 7
    (typed("object", properties={"a": ONE}, required=["a"]), {"a": 1}, {}),
    (typed("object", properties={"a": ONE}, additionalProperties=ONE), {"b": 1}, {"b": 2}),
    (typed("object", patternProperties={"^x": ONE}, additionalProperties=False), {"xy": 1}, {"y": 1}),
    (typed("object", minProperties=1, maxProperties=2), {"a": 1}, {}),
    ({"anyOf": [ONE, typed("null")]}, None, 2),
    ({"oneOf": [typed("string"), typed("null")]}, None, 2),
    ({"allOf": [typed("integer", minimum=1), {"maximum": 3}]}, 3, 4),
    ({"$ref": "#/$defs/a", "$defs": {"a": ONE}}, 1, 2),
    ({"$ref": "#/definitions/a", "definitions": {"a": ONE}}, 1, 2),
    ({"$ref": "#here", "$defs": {"a": {"$anchor": "here", "const": 1}}}, 1, 2),
    (typed("array", items={"$ref": "#"}), [[], [[]]], [1]),
    (typed(["string", "null"]), None, 1),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("schema", "right", "wrong"), ENFORCED, ids=lambda value: json.dumps(value)[:60])
def test_a_keyword_is_enforced(schema: dict[str, Any], right: Any, wrong: Any) -> None:
    assert allows(schema, right if right is not None else "null")
    assert not allows(schema, wrong if wrong is not None else "null")


REFUSED: dict[str, Any] = {
    "uniqueItems": True,
    "contains": {},
    "minContains": 1,
    "maxContains": 1,
    "unevaluatedItems": False,
    "unevaluatedProperties": False,
    "propertyNames": {},
    "dependentRequired": {},
    "dependentSchemas": {},
    "dependencies": {},
    "not": {},
    "if": {},
    "then": {},
    "else": {},
    "nullable": True,
    "$recursiveRef": "#",
    "$dynamicRef": "#a",
    "$id": "http://inner",
    "requird": ["a"],  # spelled wrongly
    "divisibleBy": 2,
    "$ref": "other.json",
    "format": "iri",
}


@pytest.mark.parametrize(("keyword", "value"), REFUSED.items())
def test_what_would_not_be_enforced_is_refused_with_its_place(keyword: str, value: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {keyword: value}}}}
    made = grammar(schema)
    assert made["param"] == f"{FIELD}.properties.a.items.{keyword}"
    assert made["fault"]
    named = {"type": "object", "properties": {keyword: {"type": "null"}}}  # a property may have any name
    assert "text" in grammar(named)


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"a": {"type": "string", "pattern": "(?=x)"}}, "required": ["a"]}, "properties.a.pattern"),
        ({"properties": {"a": {"anyOf": [{}, {"type": "text"}]}}}, "properties.a.anyOf.1"),
        ({"$defs": {"b": {"enum": 3}}, "$ref": "#/$defs/b"}, "$defs.b"),
        ({"type": "array", "items": {"minItems": "x", "type": "array"}}, "items"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, ""),
        ({"anyOf": {"a": {}}}, "anyOf"),
        ({"properties": ["a"]}, "properties"),
        ({"items": 3}, "items"),
        ({"$ref": "#"}, ""),
        ({"$ref": "#/$defs/none"}, ""),
        ({"enum": []}, ""),
        ({"const": "\ud800"}, ""),
        (False, ""),
    ],
)
def test_what_is_wrong_is_told_with_its_place(schema: Any, place: str) -> None:
    made = grammar(schema)
    assert made["param"] == ".".join(filter(None, (FIELD, place))), made
    assert len(made["fault"]) < 500
    assert "x-guidance" not in made["fault"]


def test_what_changes_nothing_is_accepted() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "http://example.com/a",
        "title": "T",
        "description": "D",
        "default": 1,
        "examples": [1],
        "deprecated": True,
        "x-order": 3,
        "x-guidance": {"lenient": True},
        "type": "integer",
        "format": "int32",
        "uniqueItems": False,
        "nullable": False,
    }
    assert cleaned(schema) == {"type": "integer"}
    assert allows(True, "3")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_format_is_enforced(name: str) -> None:
    assert not allows(typed("string", format=name), '" "')


TAGGED = {
    name: typed("object", properties={"kind": {"const": name}, "n": typed("integer")}, required=["kind"])
    for name in ("a", "b")
}


def test_one_of_is_any_of_where_no_two_can_be_valid_together() -> None:
    schema = {"oneOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": TAGGED}
    assert allows(schema, {"kind": "b", "n": 1})
    assert not allows(schema, {"kind": "c"})
    optional = {name: {key: value for key, value in one.items() if key != "required"} for name, one in TAGGED.items()}
    assert grammar({**schema, "$defs": optional})["param"] == FIELD  # {} would be valid under both
    overlapping = {"oneOf": [typed("integer"), typed("number", minimum=3)]}
    assert "oneOf" in grammar({"properties": {"a": overlapping}, "required": ["a"]})["fault"]
    assert allows({"oneOf": [{"enum": [1, "x"]}, {"enum": [True, "y"]}]}, '"y"')
    assert "fault" in grammar({"oneOf": [{"const": 1}, {"const": 1.0}]})


def test_an_object_with_named_properties_has_no_others_unless_it_says_so() -> None:
    open_ended = typed("object", properties={"a": ONE})
    assert not allows(open_ended, {"b": 1})
    assert allows({**open_ended, "additionalProperties": True}, {"a": 1, "b": "x"})
    assert allows(typed("object"), {"b": 1})
    nested = typed("object", properties={"a": typed("array", items=open_ended)})
    assert not allows(nested, {"a": [{"b": 1}]})


def test_schemas_that_are_intersected_forbid_each_other_nothing() -> None:
    left, right = typed("object", properties={"a": ONE}), typed("object", properties={"b": ONE})
    for schema in (
        {"allOf": [left, right]},
        {**left, "anyOf": [right]},
        {"$defs": {"x": right}, "$ref": "#/$defs/x", **left},
    ):
        assert allows(schema, {"a": 1, "b": 1}) or allows(schema, {"b": 1, "a": 1})


def test_keys_come_in_the_order_of_the_schema() -> None:
    schema = typed("object", properties={"b": ONE, "a": ONE}, required=["a", "b"])
    assert allows(schema, {"b": 1, "a": 1})
    assert not allows(schema, {"a": 1, "b": 1})


def test_json_is_on_one_line_with_one_blank_at_most() -> None:
    schema = typed("object", properties={"a": typed("array", items=ONE), "b": ONE}, required=["a", "b"])
    assert allows(schema, '{"a":[1,1],"b":1}')
    assert allows(schema, '{"a": [1, 1], "b": 1}')
    for text in ('{ "a":[1,1],"b":1}', '{"a":[1,1],\n"b":1}', '{"a":  [1,1],"b":1}', '{"a":[1,1],"b":1} '):
        assert not allows(schema, text)


def test_depth_and_size_are_bounded() -> None:
    deep: dict[str, Any] = {}
    for _ in range(MOST_DEPTH):
        deep = {"items": deep}
    with pytest.raises(SchemaError, match="nested too deeply"):
        cleaned(deep)
    value: list[Any] = []
    for _ in range(MOST_DEPTH + 1):
        value = [value]
    with pytest.raises(SchemaError, match="nested too deeply") as caught:
        cleaned({"properties": {"a": {"const": value}}})
    assert caught.value.path == ("properties", "a", "const")
    assert "letters of JSON" in grammar({"description": "x" * MOST_LETTERS})["fault"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_that_clients_send_are_supported(name: str) -> None:
    assert "text" in grammar(SCHEMAS[name])
