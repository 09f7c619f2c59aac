"""Twenty JSON Schemas as clients send them: nested, enums, unions, bounds, recursion, Unicode, patterns, formats."""

from typing import Any

__all__ = ["SCHEMAS"]

Schema = dict[str, Any]


def _object(properties: Schema, *optional: str, **more: Any) -> Schema:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        **more,
    }


_TEXT: Schema = {"type": "string", "maxLength": 40}
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 24}

SCHEMAS: dict[str, Schema] = {
    # As pydantic writes them
    "pydantic_person": {
        "$defs": {
            "Address": _object(
                {
                    "street": {"title": "Street", **_TEXT},
                    "zip": {"title": "Zip", "type": "string", "pattern": "^[0-9]{5}$"},
                },
                title="Address",
            )
        },
        "title": "Person",
        **_object(
            {
                "name": {"title": "Name", **_NAME},
                "age": {"title": "Age", "type": "integer", "minimum": 0, "maximum": 130},
                "address": {"$ref": "#/$defs/Address"},
                "nickname": {"anyOf": [_NAME, {"type": "null"}], "default": None, "title": "Nickname"},
            }
        ),
    },
    "pydantic_union": {
        "$defs": {
            "Cat": _object({"kind": {"const": "cat", "title": "Kind", "type": "string"}, "lives": {"enum": [7, 9]}}),
            "Dog": _object({"kind": {"const": "dog", "title": "Kind", "type": "string"}, "barks": {"type": "boolean"}}),
        },
        **_object(
            {
                "pet": {
                    "discriminator": {
                        "mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"},
                        "propertyName": "kind",
                    },
                    "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
                }
            }
        ),
    },
    "reasoning_steps": _object(
        {
            "steps": {
                "type": "array",
                "items": _object({"explanation": _TEXT, "output": _TEXT}),
                "minItems": 1,
                "maxItems": 3,
            },
            "final_answer": _TEXT,
        }
    ),
    # As OpenAI's documentation shows them
    "calendar_event": _object(
        {
            "name": _NAME,
            "date": {"type": "string", "format": "date"},
            "participants": {"type": "array", "items": _NAME, "maxItems": 4},
        }
    ),
    "moderation": _object(
        {
            "is_violating": {"type": "boolean"},
            "category": {"type": ["string", "null"], "enum": ["violence", "sexual", "self_harm", None]},
            "explanation_if_violating": {"anyOf": [_TEXT, {"type": "null"}]},
        }
    ),
    "linked_list": {
        **_object({"linked_list": {"$ref": "#/$defs/node"}}),
        "$defs": {
            "node": _object(
                {
                    "value": {"type": "integer", "minimum": -99, "maximum": 99},
                    "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
                }
            )
        },
    },
    "user_interface": {
        **_object(
            {
                "type": {"enum": ["div", "button", "header", "section", "field", "form"]},
                "label": _NAME,
                "children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 1},
            }
        ),
        # Where nothing shows an end of the nesting, a small model goes on with it.
        "examples": [
            {"type": "form", "label": "Sign in", "children": [{"type": "button", "label": "OK", "children": []}]},
            {"type": "section", "label": "Help", "children": []},
        ],
    },
    # Extraction and classification
    "sentiment": _object(
        {
            "sentiment": {"enum": ["positive", "neutral", "negative"]},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
        }
    ),
    "yes_or_no": {"enum": ["yes", "no"]},
    "numbers": {
        "type": "array",
        "items": {"type": "integer", "minimum": 1, "maximum": 6},
        "minItems": 3,
        "maxItems": 3,
    },
    "invoice": _object(
        {
            "number": {"type": "string", "pattern": "^INV-[0-9]{4,6}$"},
            "issued": {"type": "string", "format": "date-time"},
            "items": {
                "type": "array",
                "minItems": 1,
                "maxItems": 3,
                "items": _object(
                    {
                        "text": _NAME,
                        "count": {"type": "integer", "exclusiveMinimum": 0, "maximum": 999},
                        "price": {"type": "number", "minimum": 0, "maximum": 10000},
                    }
                ),
            },
            "currency": {"enum": ["EUR", "USD", "¥"]},
        }
    ),
    "contact": _object(
        {
            "id": {"type": "string", "format": "uuid"},
            "ip": {"type": "string", "format": "ipv4"},
            "phone": {"type": "string", "pattern": r"^\+[1-9][0-9]{6,12}$"},
            "note": _TEXT,
        },
        "note",
    ),
    "unicode": _object(
        {
            "größe": {"enum": ["klein", "groß", "大きい", "😀"]},
            "名前": {"type": "string", "maxLength": 12},
            "ключ": {"type": "null"},
        }
    ),
    "geometry": {
        "anyOf": [
            _object({"type": {"const": "Point"}, "coordinates": {"$ref": "#/$defs/position"}}),
            _object(
                {
                    "type": {"const": "LineString"},
                    "coordinates": {
                        "type": "array",
                        "items": {"$ref": "#/$defs/position"},
                        "minItems": 2,
                        "maxItems": 4,
                    },
                }
            ),
        ],
        "$defs": {
            "position": {
                "type": "array",
                "prefixItems": [
                    {"type": "number", "minimum": -180, "maximum": 180},
                    {"type": "number", "minimum": -90, "maximum": 90},
                ],
                "items": False,
                "minItems": 2,
            }
        },
    },
    # Configurations and plans
    "package": _object(
        {
            "name": {"type": "string", "pattern": "^[a-z][a-z0-9-]{0,20}$"},
            "version": {"type": "string", "pattern": r"^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}$"},
            "private": {"type": "boolean", "default": False},
            "keywords": {"type": "array", "items": _NAME, "maxItems": 3},
        },
        "private",
        "keywords",
    ),
    "environment": {
        "type": "object",
        "patternProperties": {
            "^[A-Z]{2,8}$": {"type": ["string", "integer"], "maxLength": 20, "minimum": 0, "maximum": 99}
        },
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 3,
    },
    "agent_action": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"Thought": _TEXT},
        **_object(
            {
                "thoughts": _object(
                    {"text": {"$ref": "#/definitions/Thought"}, "plan": {"$ref": "#/definitions/Thought"}}
                ),
                "command": _object(
                    {"name": {"enum": ["search", "read_file", "finish"]}, "args": _object({"input": _TEXT})}
                ),
            }
        ),
    },
    "quiz": _object(
        {
            "question": _TEXT,
            "options": {"type": "array", "items": _NAME, "minItems": 4, "maxItems": 4},
            "answer": {"type": "integer", "minimum": 0, "maximum": 3},
            "even": {"type": "integer", "multipleOf": 2, "minimum": 0, "maximum": 20},
        }
    ),
    "expression": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "anyOf": [
                    {"type": "integer", "minimum": 0, "maximum": 9},
                    _object(
                        {
                            "op": {"enum": ["+", "-", "*"]},
                            "left": {"$ref": "#/$defs/node"},
                            "right": {"$ref": "#/$defs/node"},
                        }
                    ),
                ]
            }
        },
        "examples": [{"op": "+", "left": 1, "right": {"op": "*", "left": 2, "right": 3}}],
    },
    "merged": {
        "allOf": [
            {
                "type": "object",
                "properties": {"id": {"type": "integer", "minimum": 1, "maximum": 50}},
                "required": ["id"],
            },
            {
                "type": "object",
                "properties": {"state": {"enum": ["open", "closed"]}, "id": {"maximum": 20}},
                "required": ["state"],
                "additionalProperties": False,
            },
        ],
        "properties": {"id": True, "state": True},
        "additionalProperties": False,
    },
}
