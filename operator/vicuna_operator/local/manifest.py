"""Reads the VicunaModel of a local run from a YAML or JSON file."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from vicuna_contract.exits import ExitCode
from vicuna_contract.names import API_VERSION, KIND
from vicuna_contract.printable import printable
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.errors import Fault, LocalRunError
from vicuna_operator.local.schema import faults, without_nulls

__all__ = ["read_model"]

_NO_INPUT = 66


def read_model(path: Path) -> Model:
    """Read the one VicunaModel in a manifest; other objects in it are left alone.

    Raises:
        LocalRunError: the file cannot be read or is not YAML, has not exactly one model, or fields are wrong: all of
            them are named.
    """
    documents = _documents(path)
    models = [doc for doc in documents if isinstance(doc, dict) and doc.get("kind") == KIND]
    if len(models) != 1:
        held = f"{len(models)} objects of kind {KIND}" if models else f"no object of kind {KIND}, {_held(documents)}"
        raise LocalRunError(f"{path} holds {held}; put exactly one into it", ExitCode.BAD_INPUT)
    return _checked(models[0], path)


def _held(documents: Sequence[Any]) -> str:
    """Say what a file without a model has."""
    held = [_what(doc) for doc in documents if doc is not None]
    return f"but {', '.join(dict.fromkeys(held))}" if held else "since it is empty"


def _what(document: Any) -> str:
    if not isinstance(document, dict):
        return "a list" if isinstance(document, list) else "plain text"
    kind = document.get("kind")
    return "an object without kind" if kind is None else f"one of kind {printable(str(kind))[:63]}"


def _documents(path: Path) -> list[Any]:
    import yaml  # late: --help needs none

    from vicuna_operator.local.strict_yaml import load_all

    try:
        return load_all(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocalRunError(
            f"{path} cannot be read: {error.strerror or error}; name a file with one {KIND}", _NO_INPUT
        ) from None
    except UnicodeDecodeError:
        raise LocalRunError(f"{path} is not UTF-8 text; save it in that encoding", ExitCode.BAD_INPUT) from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise LocalRunError(f"{path}{line} is not valid YAML: {problem}", ExitCode.BAD_INPUT) from None


def _checked(body: dict[str, Any], path: Path) -> Model:
    spec = without_nulls(body.get("spec"))
    model = parse_model({"metadata": _metadata(body), "spec": spec}, local=True)
    rules = model.spec_error.faults if model.spec_error is not None else ()
    found = _distinct(chain(_version_faults(body), rules, faults(spec), _env_faults(spec), _claim_faults(spec)))
    if found:
        raise LocalRunError(f"{path}: {_told(found)}", ExitCode.BAD_INPUT)
    return model


def _metadata(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a local run uses of the metadata; a name that is missing is found by the check of names."""
    metadata = body.get("metadata")
    given = without_nulls(metadata) if isinstance(metadata, dict) else {}
    return {key: given[key] for key in ("name", "namespace") if key in given}


def _distinct(found: Iterable[Fault]) -> list[Fault]:
    """Keep the first fault of each field, and none inside a field that is wrong itself."""
    kept: dict[str, Fault] = {}
    for fault in found:
        if not any(fault.field == field or fault.field.startswith((f"{field}.", f"{field}[")) for field in kept):
            kept[fault.field] = fault
    return list(kept.values())


def _told(found: Sequence[Fault]) -> str:
    if len(found) == 1:
        return str(found[0])
    lines = "".join(f"\n  {fault}" for fault in found)
    return f"{len(found)} fields are wrong; correct them and run it again:{lines}"


def _version_faults(body: dict[str, Any]) -> Iterator[Fault]:
    version = body.get("apiVersion")
    if version != API_VERSION:
        yield Fault("apiVersion", f"found {version!r}, expected {API_VERSION}; correct it or update vicuna-operator")


def _env_faults(spec: Any) -> Iterator[Fault]:
    """Yield the variables that have both a value and a reference to one."""
    for where, item in chain(_items(spec, "merge", "env"), _items(spec, "serving", "env")):
        if "value" in item and "valueFrom" in item:
            yield Fault(f"{where}.valueFrom", "give value or valueFrom, not both")


def _claim_faults(spec: Any) -> Iterator[Fault]:
    """Yield the resource claims that name no claim, or two."""
    kinds = {"resourceClaimName", "resourceClaimTemplateName"}
    for where, item in _items(spec, "serving", "resourceClaims"):
        if len(kinds & item.keys()) != 1:
            yield Fault(f"{where}.resourceClaimName", "give one of resourceClaimName and resourceClaimTemplateName")


def _items(spec: Any, part: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a list in a part of the spec, each with its place."""
    parent = spec.get(part) if isinstance(spec, dict) else None
    items = parent.get(name) if isinstance(parent, dict) else None
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield f"spec.{part}.{name}[{index}]", item
