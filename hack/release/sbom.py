"""The list of an image's parts (SBOM): written by CycloneDX's own tool, and compared with what pip finds installed."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from release.commands import run, words_of
from release.images import buildah, local_name
from release.parts import Image, ReleaseError

__all__ = ["components", "differences", "installed", "write_sbom"]


def write_sbom(tree: Path, image: Image, version: str, base: str, folder: Path) -> Path:
    """Write the list of parts of an image that was built.

    Raises:
        ReleaseError: a tool failed, or the list is not what is installed.
    """
    target = folder / image.sbom(version)
    with tempfile.TemporaryDirectory() as scratch:
        words = ["build", "--quiet", "--file", "hack/release/sbom.Dockerfile", "--layers"]
        words += ["--build-arg", f"PYTHON_IMAGE={base}", "--build-arg", f"IMAGE={local_name(image, version)}"]
        words += ["--output", f"type=local,dest={scratch}", "--ignorefile", "hack/release/sbom.dockerignore"]
        run(*buildah(), *words, *words_of("BUILD_ARGS"), ".", cwd=tree)
        listed, found = (json.loads((Path(scratch) / name).read_text()) for name in ("sbom.json", "installed.json"))
        if unlike := differences(components(listed), installed(found)):
            raise ReleaseError(f"the list of parts of {image.key} is wrong: {'; '.join(unlike)}")
        shutil.copyfile(Path(scratch) / "sbom.json", target)
    return target


def components(sbom: Mapping[str, Any]) -> dict[str, str]:
    """Return name and version of all parts in a CycloneDX document."""
    return _versions([*sbom.get("components", ()), *filter(None, [sbom.get("metadata", {}).get("component")])])


def installed(listed: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return name and version of all packages in the output of `pip list --format json`."""
    return _versions(listed)


def differences(listed: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Say what differs, one text for each package."""
    names = sorted({*listed, *found})
    return [
        f"{name}: {listed.get(name, 'missing')} listed, {found.get(name, 'nothing')} installed"
        for name in names
        if listed.get(name) != found.get(name)
    ]


def _versions(items: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Names are written as PyPI compares them."""
    return {re.sub(r"[-_.]+", "-", str(item["name"])).lower(): str(item["version"]) for item in items}
