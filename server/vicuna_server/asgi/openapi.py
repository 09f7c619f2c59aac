"""The OpenAPI document: bodies are read by hand, so what they are made of is told here."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from vicuna_server.protocol.errors import ErrorBody

__all__ = ["install", "operation"]

REF = "#/components/schemas/{model}"
EVENT = {
    "type": "object",
    "properties": {"data": {"type": "string", "description": "a chunk in JSON; [DONE] at the end"}},
    "required": ["data"],
}
"""One of the server-sent events of a stream."""
_bodies: dict[str, type[BaseModel]] = {}
_answers: dict[str, Any] = {}


def operation(body: type[BaseModel] | None, answer: Any) -> dict[str, object]:
    """Return what a route adds to its entry: its body's model, the TypedDict of its answer, the shape of errors."""
    _answers[answer.__name__] = answer
    entry: dict[str, object] = {
        "responses": {
            "200": {"content": {"application/json": {"schema": _ref(answer)}}},
            "default": {
                "description": "The request failed",
                "content": {"application/json": {"schema": _ref(ErrorBody)}},
            },
        }
    }
    if body is not None:
        _bodies[body.__name__] = body
        entry["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
        if "stream" in body.model_fields:
            entry["responses"]["200"]["content"]["text/event-stream"] = {"schema": EVENT}  # type: ignore[index]
    return entry


def install(app: FastAPI) -> None:
    """Let the application's document have the schemas that `operation` refers to."""
    _answers[ErrorBody.__name__] = ErrorBody
    plain = app.openapi

    def document() -> dict[str, Any]:
        made = plain()
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        if ErrorBody.__name__ in schemas:
            return made
        for path in made["paths"].values():
            for entry in path.values():
                entry["responses"].pop("422", None)  # FastAPI's own; ours are 400 and have another shape
        schemas.clear()
        _, bodies = models_json_schema([(model, "validation") for model in _bodies.values()], ref_template=REF)
        schemas |= bodies["$defs"]
        for name, answer in _answers.items():
            schema = TypeAdapter(answer).json_schema(ref_template=REF)
            schemas |= schema.pop("$defs", {})
            schemas[name] = schema
        return made

    app.openapi = document  # type: ignore[method-assign]


def _ref(model: Any) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}
