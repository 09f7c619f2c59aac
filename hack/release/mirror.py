"""Images and chart of a release, copied by digest into another registry: for clusters without the Internet."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from release.chart import push_chart, release_of
from release.commands import run
from release.images import copy_words
from release.parts import IMAGES, ReleaseError

__all__ = ["copies", "fetched_chart", "mirror"]


def copies(release: Mapping[str, Any], target: str) -> list[tuple[str, str]]:
    """Return source (by digest) and target (by tag) of each image of a release.

    Args:
        release: Registry, digests and version of a packaged chart.
        target: The other registry, with the path in it.

    Raises:
        ReleaseError: the release names no registry.
    """
    registry = str(release["registry"])
    if not registry:
        raise ReleaseError("this chart is of no release that is in a registry; copy the OCI archives instead (push)")
    return [
        (f"{registry}/{image.repository}@{digest}", f"{target}/{image.repository}:{image.tag(release['version'])}")
        for image in IMAGES
        if (digest := release["digests"].get(image.key))
    ]


def fetched_chart(chart: str, version: str, folder: Path, *, plain_http: bool) -> Path:
    """Return a packaged chart: a file, or one that is fetched from oci://… first.

    Raises:
        ReleaseError: helm failed.
    """
    if not chart.startswith("oci://"):
        return Path(chart)
    words = ["helm", "pull", chart, "--destination", str(folder), *(["--version", version] if version else [])]
    run(*words, *(["--plain-http"] if plain_http else []))
    (package,) = folder.glob("*.tgz")
    return package


def mirror(chart: str, version: str, target: str, *, plain_http: bool) -> None:
    """Print what a release has, by digest; with a target, copy images and chart to it.

    Raises:
        ReleaseError: the chart cannot be had, is of no release, or something could not be copied.
    """
    with tempfile.TemporaryDirectory() as scratch:
        package = fetched_chart(chart, version, Path(scratch), plain_http=plain_http)
        for source, copy in copies(release_of(package), target or "TARGET"):
            print(f"{source} {copy}" if target else source, flush=True)
            if target:
                run(*copy_words(f"docker://{source}", f"docker://{copy}", plain_http=plain_http))
        if target:
            push_chart(package, target, plain_http=plain_http)
            print(f"helm install vicuna-operator oci://{target}/charts/vicuna-operator --set registry={target}")
