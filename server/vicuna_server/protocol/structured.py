"""The request fields that say what an answer's text may be.

Sources: OpenAI's API reference (`response_format`), vLLM's documentation "Structured Outputs" (`structured_outputs`,
and the older `guided_*`). A schema under `response_format.schema` is llama.cpp's and others' spelling.
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from vicuna_server.constraints import AnyJsonObject, Choice, Grammar, JsonSchema, Regex
from vicuna_server.protocol.body import RequestPart

__all__ = [
    "FormatConstraint",
    "JsonSchemaFormat",
    "ResponseFormat",
    "StructuredFields",
    "StructuredOutputs",
]

MAX_TEXT = 64 * 1024
"""Letters of a regular expression or a grammar."""
MAX_OPTIONS = 1024

FormatConstraint = AnyJsonObject | JsonSchema | Regex | Choice | Grammar


def _schema_text(value: object) -> object:
    """Take a schema as an object or as its JSON text; what it says is checked by the engine."""
    if value is not None and not isinstance(value, dict | str):
        raise ValueError("send a JSON Schema, which is an object")
    return json.dumps(value) if isinstance(value, dict) else value


SchemaText = Annotated[str, BeforeValidator(_schema_text)]
GrammarText = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Options = Annotated[list[GrammarText], Field(min_length=1, max_length=MAX_OPTIONS, fail_fast=True)]


class JsonSchemaFormat(RequestPart):
    """`response_format.json_schema`. The schema is kept to whatever `strict` says."""

    name: str | None = None
    description: str | None = None
    schema_: SchemaText = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(RequestPart):
    """`response_format` of OpenAI."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None
    schema_: SchemaText | None = Field(default=None, alias="schema")

    @field_validator("type", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        if isinstance(value, str) and value not in ("text", "json_object", "json_schema"):
            raise ValueError(f"{value[:40]!r} is not supported; use text, json_object or json_schema")
        return value

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema: missing; send the name and the schema in it")
        return self

    @property
    def constraint(self) -> AnyJsonObject | JsonSchema | None:
        """What the answer may be; None: anything."""
        if self.type == "json_schema" and self.json_schema is not None:
            return JsonSchema(self.json_schema.schema_, "response_format.json_schema.schema")
        if self.type == "json_object":
            return AnyJsonObject() if self.schema_ is None else JsonSchema(self.schema_, "response_format.schema")
        return None


class StructuredOutputs(RequestPart):
    """`structured_outputs` of vLLM: one way of saying what the answer may be."""

    json_: SchemaText | None = Field(default=None, alias="json")
    regex: GrammarText | None = None
    choice: Options | None = None
    grammar: GrammarText | None = None
    json_object: bool | None = None
    structural_tag: Any = None
    disable_any_whitespace: bool | None = None
    disable_additional_properties: bool | None = None
    whitespace_pattern: str | None = None

    @model_validator(mode="after")
    def _one_that_is_supported(self) -> Self:
        if self.structural_tag is not None:
            raise ValueError("structural_tag: not supported; send the functions as tools")
        if self.whitespace_pattern is not None:
            raise ValueError("whitespace_pattern: not supported, JSON comes on one line; leave it out")
        if self.json_object is False:
            raise ValueError("json_object: must be true where it is given; leave it out")
        given = [self.json_, self.regex, self.choice, self.grammar, self.json_object]
        if sum(one is not None for one in given) != 1:
            raise ValueError("exactly one of json, regex, choice, grammar and json_object must be given")
        return self

    @property
    def constraint(self) -> FormatConstraint:
        """What the answer may be."""
        if self.json_ is not None:
            return JsonSchema(self.json_, "structured_outputs.json", whitespace=not self.disable_any_whitespace)
        if self.regex is not None:
            return Regex(self.regex, "structured_outputs.regex")
        if self.choice is not None:
            return Choice(tuple(self.choice), "structured_outputs.choice")
        if self.grammar is not None:
            return Grammar(self.grammar, "structured_outputs.grammar")
        return AnyJsonObject()


class StructuredFields(RequestPart):
    """The fields, of which a request may have one."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: SchemaText | None = None
    guided_regex: GrammarText | None = None
    guided_choice: Options | None = None
    guided_grammar: GrammarText | None = None

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        given = list(self._formats())
        if len(given) > 1:
            raise ValueError(f"{given[1]}: beside {given[0]}, which says the same; leave one of them out")
        return self

    @property
    def format_constraint(self) -> FormatConstraint | None:
        """What the answer's text may be; None: anything."""
        return next(iter(self._formats().values()), None)

    def _formats(self) -> dict[str, FormatConstraint]:
        formatted, structured = self.response_format, self.structured_outputs
        found: dict[str, FormatConstraint | None] = {
            "response_format": None if formatted is None else formatted.constraint,
            "structured_outputs": None if structured is None else structured.constraint,
            "guided_json": None if self.guided_json is None else JsonSchema(self.guided_json, "guided_json"),
            "guided_regex": None if self.guided_regex is None else Regex(self.guided_regex, "guided_regex"),
            "guided_choice": None if self.guided_choice is None else Choice(tuple(self.guided_choice), "guided_choice"),
            "guided_grammar": None if self.guided_grammar is None else Grammar(self.guided_grammar, "guided_grammar"),
        }
        return {name: constraint for name, constraint in found.items() if constraint is not None}
