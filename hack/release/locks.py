"""Lists of dependencies with hashes, made from pyproject.toml and constraints.txt by uv: `make locks`.

PyTorch for CPUs is in none of them: its wheels have the version of PyPI's and other bytes, and come from an index that
each builder chooses. Its version is that of constraints.txt; a hash is stated to the build (TORCH_SHA256).
"""

import re
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from release.parts import ReleaseError

__all__ = ["LOCKS", "entries", "requirements_of", "without_gpu_parts", "write_locks"]

LOCKS = {
    "images/requirements/operator.txt": ("operator",),
    "images/requirements/gateway.txt": ("gateway",),
    "images/requirements/front.txt": ("front",),
    "images/requirements/server-cpu.txt": ("server",),
    "images/requirements/server-cuda.txt": ("server", "gpu"),
    "hack/release/plugin.txt": (),
}
"""File to the extras of pyproject.toml that it has."""
BUILDER = "images/requirements/build.txt"
"""What makes a wheel of our sources, in the stage of each image that is not kept."""
TOOLS = "hack/release/requirements.in"
_HEAD = "# Made by `make locks`; do not edit.\n"
_OF_GPUS = re.compile(r"torch|triton|nvidia-.*|cuda-.*")


def requirements_of(project: Mapping[str, Any], extras: Iterable[str]) -> list[str]:
    """Return the dependencies of a project with some extras."""
    return [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]


def entries(lock: str) -> dict[str, str]:
    """Return each package's name with the text of its lines."""
    parts = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return {part.partition("==")[0]: part for part in parts if "==" in part}


def without_gpu_parts(lock: str) -> str:
    """Return a lock without PyTorch and what only its CUDA build needs."""
    return "".join(text for name, text in entries(lock).items() if not _OF_GPUS.fullmatch(name))


def write_locks(tree: Path) -> None:
    """Write all locks of a source tree.

    Raises:
        ReleaseError: uv is missing, or finds no versions that fit.
    """
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    for name, extras in LOCKS.items():
        lock = _compiled(requirements_of(project, extras), ["--constraint", str(tree / "constraints.txt")])
        if name.endswith("-cpu.txt"):
            lock = without_gpu_parts(lock)
        (tree / name).write_text(_HEAD + lock)
    build = tomllib.loads((tree / "pyproject.toml").read_text())["build-system"]["requires"]
    (tree / BUILDER).write_text(_HEAD + _compiled(build, []))
    tools = (tree / TOOLS).read_text().splitlines()
    (tree / TOOLS).with_suffix(".txt").write_text(_HEAD + _compiled(tools, []))


def _compiled(requirements: list[str], options: list[str]) -> str:
    words = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
    words += ["--no-annotate", "--no-header", *options, "-"]
    try:
        done = subprocess.run(words, input="\n".join(requirements), capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ReleaseError("uv is not installed: `pip install uv`") from error
    if done.returncode:
        raise ReleaseError(f"uv pip compile: {done.stderr.strip()}")
    return done.stdout
