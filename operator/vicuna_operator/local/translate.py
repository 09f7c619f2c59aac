"""From a rendered container to a local command line: folders stand in for volumes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicuna_contract.exits import ExitCode
from vicuna_contract.names import TOKEN_PATH_VARIABLE
from vicuna_contract.sources import FileSource, parse_argument
from vicuna_operator.errors import LocalRunError

__all__ = ["LocalCommand", "claims_of", "translate", "with_option"]

_THE_USERS = ("HOME", TOKEN_PATH_VARIABLE)  # for a container's home and mounted token; a local run uses the user's own


@dataclass(frozen=True)
class LocalCommand:
    """What to execute, and the variables to add to the environment."""

    argv: list[str]
    env: dict[str, str]


def claims_of(pod: Mapping[str, Any]) -> list[str]:
    """Return the claims a pod mounts."""
    return [
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    ]


def translate(pod: Mapping[str, Any], folders: Mapping[str, Path], index: int = 0) -> LocalCommand:
    """Turn a container of the pod into a local command; `folders` maps claims to absolute folders.

    Raises:
        LocalRunError: the environment refers to Secrets or ConfigMaps, which do not exist here.
    """
    container = pod["containers"][index]
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    places = {
        mount["mountPath"]: folders[claims[mount["name"]]]
        for mount in container["volumeMounts"]
        if mount["name"] in claims
    }
    argv = [_moved(word, places) for word in [*container["command"], *container["args"]]]
    return LocalCommand(argv, _environment(container["env"]))


def with_option(argv: Sequence[str], option: str, value: str) -> list[str]:
    """Return a command line with another value of an option that it has."""
    words = list(argv)
    words[words.index(option) + 1] = value
    return words


def _moved(word: str, places: Mapping[str, Path]) -> str:
    """Replace a path below a mount, plain or as file://, by the path in its folder."""
    source = parse_argument(word) if word.startswith("file://") else None
    path = source.path if isinstance(source, FileSource) else word
    for mount in sorted(places, key=len, reverse=True):
        if path == mount or path.startswith(f"{mount}/"):
            moved = f"{places[mount]}{path.removeprefix(mount)}"
            return moved if source is None else FileSource(moved).uri
    return word


def _environment(env: list[dict[str, Any]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for item in env:
        name = item["name"]
        if "valueFrom" in item:
            if name != "HF_TOKEN":
                message = f"env {name}: valueFrom means nothing in a local run; set it in your shell"
                raise LocalRunError(message, ExitCode.BAD_INPUT)
            continue  # inherited from the user's own environment
        if name not in _THE_USERS:
            values[name] = str(item.get("value", ""))
    return values
