"""The list of an image's parts (SBOM): written by CycloneDX's own tool, and compared with what pip finds installed.

Both read the packages' own descriptions, which are taken from the image's archive. So the list is of what is published,
and can be made for any platform.
"""

import json
import re
import shlex
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from release.commands import output, run
from release.parts import ReleaseError

__all__ = ["components", "descriptions", "differences", "installed", "write_sbom"]

_DESCRIPTION = re.compile(r"(?:\./)?venv/lib/python[0-9.]+/site-packages/(?P<name>[^/]+\.dist-info/[^/]+)")


def write_sbom(archive: Path, target: Path) -> None:
    """Write the list of parts of the image in an OCI archive.

    Raises:
        ReleaseError: a tool failed, or the list is not what is installed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        packages = Path(scratch) / "packages"
        for name, content in descriptions(archive):
            (packages / name).parent.mkdir(parents=True, exist_ok=True)
            (packages / name).write_bytes(content)
        # The tool asks an interpreter for its path, and no more. This one knows the image's packages.
        interpreter = Path(scratch) / "python"
        interpreter.write_text(f"#!/bin/sh\necho {shlex.quote(json.dumps([str(packages)]))}\n")
        interpreter.chmod(0o755)
        words = [
            sys.executable,
            "-m",
            "cyclonedx_py",
            "environment",
            "--output-reproducible",
            "--output-format",
            "JSON",
            "--no-validate",  # 7 s for each image; a test validates one
        ]
        run(*words, "--output-file", str(target), str(interpreter))
        listed = components(json.loads(target.read_text()))
        found = output(sys.executable, "-m", "pip", "list", "--path", str(packages), "--format", "json")
    if unlike := differences(listed, installed(json.loads(found))):
        raise ReleaseError(f"the list of parts of {archive.name} is wrong: {'; '.join(unlike)}")


def descriptions(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path (DIST-INFO/FILE) and bytes of each description of an installed package in an OCI archive.

    Of an image for several platforms the first one's: its packages are those of the others.
    """
    with tarfile.open(archive) as content:

        def blob(digest: str) -> Any:
            file = content.extractfile(f"blobs/{digest.replace(':', '/')}")
            if file is None:
                raise ReleaseError(f"{archive.name} has no {digest}")
            return file

        index = content.extractfile("index.json")
        if index is None:
            raise ReleaseError(f"{archive.name} is no OCI archive")
        document = json.load(index)
        while "layers" not in document:
            document = json.load(blob(document["manifests"][0]["digest"]))
        for layer in document["layers"]:
            with tarfile.open(fileobj=blob(layer["digest"]), mode="r:*") as files:
                for member in files:
                    if (match := _DESCRIPTION.fullmatch(member.name)) and (file := files.extractfile(member)):
                        yield match["name"], file.read()


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
