"""Images by buildah: built, kept as OCI archives, and copied into a registry by skopeo with the same digest.

BUILDAH is the builder's command and BUILD_ARGS are further words for it, for a machine where it needs some.
"""

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from release.commands import run, succeeds, words_of
from release.parts import Image, ReleaseError

__all__ = [
    "Build",
    "archive_image",
    "build_image",
    "build_words",
    "copy_words",
    "digest_in",
    "digest_of",
    "local_name",
    "push_image",
]


class Build(NamedTuple):
    """What all images of a release have in common."""

    version: str
    base: str
    """The base image, by digest."""
    revision: str
    """The commit."""
    epoch: int
    platforms: str = ""
    """Such as linux/amd64,linux/arm64; empty for the builder's own."""
    torch: tuple[str, ...] = ()
    """Build arguments that say where PyTorch for CPUs comes from."""


def local_name(image: Image, version: str) -> str:
    """Return the image's name on the builder's machine."""
    return f"localhost/{image.repository}:{image.tag(version)}"


def buildah() -> list[str]:
    """Return the builder's command."""
    return words_of("BUILDAH", "buildah")


def build_words(image: Image, build: Build) -> list[str]:
    """Return the words for the builder, after its own command."""
    words = ["build", "--file", image.dockerfile, "--manifest", local_name(image, build.version)]
    words += ["--timestamp", str(build.epoch)]
    if build.platforms:
        words += ["--platform", build.platforms]
    arguments = [f"PYTHON_IMAGE={build.base}", *image.arguments]
    if image.key == "server":  # for CPUs; the other one takes PyPI's torch
        arguments += build.torch
    for argument in arguments:
        words += ["--build-arg", argument]
    for name, value in {
        "version": build.version,
        "revision": build.revision,
        "base.name": build.base.partition("@")[0],
        "base.digest": build.base.partition("@")[2],
    }.items():
        words += ["--label", f"org.opencontainers.image.{name}={value}"]
    return words


def build_image(tree: Path, image: Image, build: Build) -> None:
    """Build an image from a source tree, under its name on this machine.

    Raises:
        ReleaseError: the builder failed.
    """
    # To a list that an earlier build left, the builder would add another image of the same platform.
    if succeeds(*buildah(), "manifest", "exists", local_name(image, build.version)):
        run(*buildah(), "manifest", "rm", local_name(image, build.version))
    run(*buildah(), *build_words(image, build), *words_of("BUILD_ARGS"), ".", cwd=tree)


def archive_image(image: Image, version: str, folder: Path) -> Path:
    """Write an image, for all its platforms, as an OCI archive.

    Raises:
        ReleaseError: the builder failed.
    """
    archive = folder / image.archive(version)
    archive.unlink(missing_ok=True)
    run(*buildah(), "manifest", "push", "--quiet", "--all", local_name(image, version), f"oci-archive:{archive}")
    return archive


def digest_of(index: Mapping[str, Any]) -> str:
    """Return the digest of the one image that an OCI layout's index.json names."""
    entries: list[Mapping[str, Any]] = index.get("manifests") or []
    if len(entries) != 1:
        raise ReleaseError(f"an archive of one image was expected, not of {len(entries)}")
    return str(entries[0]["digest"])


def digest_in(archive: Path) -> str:
    """Return the digest that the image in an OCI archive has in a registry too."""
    with tarfile.open(archive) as content:
        file = content.extractfile("index.json")
        if file is None:
            raise ReleaseError(f"{archive} is no OCI archive: it has no index.json")
        return digest_of(json.load(file))


def copy_words(source: str, target: str, *, plain_http: bool) -> list[str]:
    """Return the command that copies an image with all its platforms, and fails where the digest would change."""
    words = ["skopeo", "copy", "--quiet", "--all", "--preserve-digests"]
    if plain_http:
        words += ["--src-tls-verify=false", "--dest-tls-verify=false"]
    return [*words, source, target]


def push_image(archive: Path, target: str, *, plain_http: bool) -> None:
    """Copy the image of an OCI archive to REGISTRY/NAME:TAG.

    Raises:
        ReleaseError: skopeo failed.
    """
    run(*copy_words(f"oci-archive:{archive}", f"docker://{target}", plain_http=plain_http))
