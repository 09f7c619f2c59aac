"""A VicunaModel as the operator reads it: metadata, validated spec or the error in it, last status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vicuna_operator.api.finalizers import foreign_finalizers
from vicuna_operator.api.types import VicunaModelSpec
from vicuna_operator.api.validation import parse_spec
from vicuna_operator.errors import SpecError

__all__ = ["Model", "parse_model"]

_OBJECTS = ("active", "target", "merge", "lastFailure", "autoscaling")
_LISTS = ("conditions", "history")


@dataclass(frozen=True)
class Model:
    """One VicunaModel. Exactly one of `spec` and `spec_error` is set."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: VicunaModelSpec | None
    spec_error: SpecError | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    deleting: bool = False
    created: str = ""
    finalizers: Sequence[str] = ()  # of others than Kubernetes itself

    @property
    def going(self) -> bool:
        """Tell whether it is being deleted and no finalizer of others keeps it."""
        return self.deleting and not self.finalizers


def parse_model(body: Mapping[str, Any], *, local: bool = False) -> Model:
    """Read a VicunaModel object; a wrong spec becomes `spec_error`, never an exception.

    `local` allows file:// sources and a missing storage size.
    """
    metadata = body.get("metadata") or {}
    spec: VicunaModelSpec | None = None
    error: SpecError | None = None
    try:
        spec = parse_spec(body.get("spec"), name=str(metadata.get("name", "")), local=local)
    except SpecError as caught:
        error = caught
    return Model(
        name=str(metadata.get("name", "")),
        namespace=str(metadata.get("namespace", "default")),
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation", 0)),
        spec=spec,
        spec_error=error,
        annotations=dict(metadata.get("annotations") or {}),
        status=_flattened(body.get("status")),
        deleting="deletionTimestamp" in metadata,
        created=str(metadata.get("creationTimestamp") or ""),
        finalizers=foreign_finalizers(metadata.get("finalizers")),
    )


def _flattened(status: object) -> dict[str, Any]:
    """Read a status; members of the wrong form are left out."""
    known = status if isinstance(status, Mapping) else {}
    plain = _members(known)
    objects = {key: _members(known[key]) for key in _OBJECTS if isinstance(known.get(key), Mapping)}
    lists = {
        key: [_members(item) for item in known[key] if isinstance(item, Mapping)]
        for key in _LISTS
        if isinstance(known.get(key), list)
    }
    return {key: value for key, value in plain.items() if key not in (*_OBJECTS, *_LISTS)} | objects | lists


def _members(value: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): item for key, item in value.items() if isinstance(item, str | int | float)}
