"""The chart of a release: the chart of the tree, with the registry and the digests of the release's images in it."""

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from release.commands import run
from release.parts import ReleaseError

__all__ = ["CHART", "package_chart", "push_chart", "release_of", "release_text"]

CHART = "vicuna-operator"
_FILE = "files/release.json"


def release_text(registry: str, digests: Mapping[str, str]) -> str:
    """Return what the chart's templates read: where the images are, and which ones they are."""
    return json.dumps({"registry": registry, "digests": dict(sorted(digests.items()))}, indent=2) + "\n"


def package_chart(tree: Path, folder: Path, registry: str, digests: Mapping[str, str], epoch: int) -> Path:
    """Package the chart into a folder.

    Raises:
        ReleaseError: helm is missing, or failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch) / CHART
        shutil.copytree(tree / "charts" / CHART, staged)
        (staged / _FILE).write_text(release_text(registry, digests))
        for file in [staged, *staged.rglob("*")]:
            os.utime(file, (epoch, epoch))
        run("helm", "package", str(staged), "--destination", str(folder), env={"SOURCE_DATE_EPOCH": str(epoch)})
    (package,) = folder.glob(f"{CHART}-[0-9]*.tgz")
    return package


def release_of(package: Path) -> dict[str, Any]:
    """Return registry, digests and version of a packaged chart.

    Raises:
        ReleaseError: the file is no chart of a release.
    """
    try:
        with tarfile.open(package) as content:
            file = content.extractfile(f"{CHART}/{_FILE}")
            chart = content.extractfile(f"{CHART}/Chart.yaml")
            if file is None or chart is None:
                raise KeyError(_FILE)
            lines = chart.read().decode().splitlines()
            (version,) = [line.partition(":")[2].strip() for line in lines if line.startswith("version:")]
            return {**json.load(file), "version": version}
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise ReleaseError(f"{package} is no packaged chart of a release: {error}") from error


def push_chart(package: Path, registry: str, *, plain_http: bool) -> None:
    """Copy the packaged chart to REGISTRY/charts.

    Raises:
        ReleaseError: helm failed.
    """
    run("helm", "push", str(package), f"oci://{registry}/charts", *(["--plain-http"] if plain_http else []))
