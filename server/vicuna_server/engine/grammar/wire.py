"""Constraints as JSON, for the process that checks them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vicuna_server.constraints import (
    AnyJsonObject,
    CallForm,
    Choice,
    Constraint,
    Grammar,
    JsonSchema,
    Regex,
    ToolCalls,
)

__all__ = ["read", "written"]

_KINDS = {kind.__name__: kind for kind in (AnyJsonObject, JsonSchema, Regex, Choice, Grammar)}


def written(constraint: Constraint) -> dict[str, Any]:
    """Return a constraint as an object that `read` takes."""
    fields = {"kind": type(constraint).__name__, **asdict(constraint)}
    if isinstance(constraint, ToolCalls) and constraint.otherwise is not None:
        fields["otherwise"] = written(constraint.otherwise)
    return fields


def read(fields: Mapping[str, Any]) -> Constraint:
    """Return the constraint."""
    values = {name: value for name, value in fields.items() if name != "kind"}
    if fields["kind"] == ToolCalls.__name__:
        forms = tuple(CallForm(**form) for form in values["forms"])
        otherwise = values["otherwise"] and read(values["otherwise"])
        return ToolCalls(**{**values, "forms": forms, "otherwise": otherwise})
    if fields["kind"] == Choice.__name__:
        values["options"] = tuple(values["options"])
    return _KINDS[fields["kind"]](**values)
