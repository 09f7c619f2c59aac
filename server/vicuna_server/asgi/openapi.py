"""The OpenAPI document. Routes read their bodies themselves, so the schemas are added here."""

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
_responses: dict[str, Any] = {}


def operation(body: type[BaseModel] | None, response: Any) -> dict[str, object]:
    """Return a route's part of the document: schemas of its body, of its response (a TypedDict) and of errors."""
    _responses[response.__name__] = response
    entry: dict[str, object] = {
        "responses": {
            "200": {"content": {"application/json": {"schema": _ref(response)}}},
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
    """Add the schemas that `operation` refers to, to the application's document."""
    _responses[ErrorBody.__name__] = ErrorBody
    plain = app.openapi

    def document() -> dict[str, Any]:
        made = plain()
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        if ErrorBody.__name__ in schemas:
            return made
        for path in made["paths"].values():
            for entry in path.values():
                entry["responses"].pop(
                    "422", None
                )  # FastAPI's own; our validation errors are 400, with OpenAI's error object
        schemas.clear()
        _, bodies = models_json_schema([(model, "validation") for model in _bodies.values()], ref_template=REF)
        schemas |= bodies["$defs"]
        for name, response in _responses.items():
            schema = TypeAdapter(response).json_schema(ref_template=REF)
            schemas |= schema.pop("$defs", {})
            schemas[name] = schema
        return made

    app.openapi = document  # type: ignore[method-assign]


def _ref(model: Any) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}
