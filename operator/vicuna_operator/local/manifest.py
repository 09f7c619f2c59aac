"""Reads the VicunaModel of a local run from a YAML or JSON file."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from vicuna_contract.exits import ExitCode
from vicuna_contract.names import API_VERSION, KIND
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.errors import LocalRunError
from vicuna_operator.local.schema import faults, without_nulls

__all__ = ["read_model"]

_NO_INPUT = 66


def read_model(path: Path) -> Model:
    """Read the one VicunaModel in a manifest; other objects in it are left alone.

    Raises:
        LocalRunError: the file cannot be read or is not YAML, has not exactly one model, or the spec is invalid.
    """
    models = [doc for doc in _documents(path) if isinstance(doc, dict) and doc.get("kind") == KIND]
    if len(models) != 1:
        raise LocalRunError(
            f"{path} holds {len(models)} objects of kind {KIND}; put exactly one into it", ExitCode.BAD_INPUT
        )
    return _checked(models[0], path)


def _documents(path: Path) -> list[Any]:
    import yaml  # late: --help needs none

    try:
        return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise LocalRunError(f"{path}: {error.strerror or error}", _NO_INPUT) from None
    except UnicodeDecodeError:
        raise LocalRunError(f"{path} is not UTF-8 text; save it in that encoding", ExitCode.BAD_INPUT) from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise LocalRunError(f"{path}{line} is not valid YAML: {problem}", ExitCode.BAD_INPUT) from None


def _checked(body: dict[str, Any], path: Path) -> Model:
    if body.get("apiVersion") != API_VERSION:
        raise LocalRunError(f"{path}: apiVersion is {body.get('apiVersion')!r}, not {API_VERSION}", ExitCode.BAD_INPUT)
    if not isinstance(body.get("metadata"), dict) or not body["metadata"].get("name"):
        raise LocalRunError(f"{path}: metadata.name is missing", ExitCode.BAD_INPUT)
    spec = without_nulls(body.get("spec"))
    model = parse_model({**body, "spec": spec}, local=True)
    if model.spec_error is not None:
        raise LocalRunError(f"{path}: {model.spec_error}", ExitCode.BAD_INPUT)
    for field, message in chain(faults(spec), _both(spec), _claims(spec)):
        raise LocalRunError(f"{path}: {field}: {message}", ExitCode.BAD_INPUT)
    return model


def _both(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the variables that have both a value and a reference to one."""
    for part in ("merge", "serving"):
        for index, item in enumerate((spec.get(part) or {}).get("env", ())):
            if "value" in item and "valueFrom" in item:
                yield f"spec.{part}.env[{index}].valueFrom", "give value or valueFrom, not both"


def _claims(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the resource claims that name no claim, or two."""
    kinds = {"resourceClaimName", "resourceClaimTemplateName"}
    for index, item in enumerate((spec.get("serving") or {}).get("resourceClaims", ())):
        if len(kinds & item.keys()) != 1:
            where = f"spec.serving.resourceClaims[{index}].resourceClaimName"
            yield where, "give one of resourceClaimName and resourceClaimTemplateName"
