"""What is released, and what it is called. Pure."""

import re
from typing import NamedTuple

__all__ = ["IMAGES", "Image", "ReleaseError", "checked_base", "checked_form", "checked_version", "chosen"]


class ReleaseError(Exception):
    """A release cannot be made; the message says why and what to do."""


class Image(NamedTuple):
    """One image of a release."""

    key: str
    """Its name in the chart's list of digests."""
    repository: str
    dockerfile: str
    suffix: str = ""
    """Of its tag, after the version."""
    arguments: tuple[str, ...] = ()
    """Of its build, NAME=VALUE."""

    def tag(self, version: str) -> str:
        """Return its tag in a release."""
        return f"{version}{self.suffix}"

    def archive(self, version: str) -> str:
        """Return the name of its OCI archive."""
        return f"{self.repository}-{self.tag(version)}.oci.tar"

    def sbom(self, version: str) -> str:
        """Return the name of its list of parts."""
        return f"{self.repository}-{self.tag(version)}.cdx.json"


IMAGES = (
    Image("operator", "vicuna-operator", "images/operator.Dockerfile"),
    Image("server", "vicuna-server", "images/server.Dockerfile"),
    Image("server-cuda", "vicuna-server", "images/server.Dockerfile", "-cuda", ("VARIANT=cuda",)),
    Image("gateway", "vicuna-gateway", "images/gateway.Dockerfile"),
    Image("front", "vicuna-front", "images/front.Dockerfile"),
)
_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9a-z.]+)?")
_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


def chosen(keys: str) -> tuple[Image, ...]:
    """Return the images of some keys, separated by commas or spaces; all for none.

    Raises:
        ReleaseError: there is no image of that key.
    """
    wanted = keys.replace(",", " ").split()
    known = {image.key: image for image in IMAGES}
    for key in wanted:
        if key not in known:
            raise ReleaseError(f"IMAGES: there is no image {key!r}; there are {', '.join(known)}")
    return tuple(image for image in IMAGES if not wanted or image.key in wanted)


def checked_form(version: str) -> str:
    """Return a version that is well-formed.

    Raises:
        ReleaseError: it is not.
    """
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"VERSION={version or '(empty)'}: name a version such as 0.1.0")
    return version


def checked_version(version: str, stated: dict[str, str]) -> str:
    """Return a version that is well-formed and that all files state (`stated`: file to version).

    Raises:
        ReleaseError: it is neither.
    """
    checked_form(version)
    for file, found in stated.items():
        if found != version:
            raise ReleaseError(f"VERSION={version}, but {file} says {found}; change the file and commit it first")
    return version


def checked_base(image: str) -> str:
    """Return the base image, which has to be named by its digest.

    Raises:
        ReleaseError: a tag may be another image tomorrow.
    """
    if not _DIGEST.fullmatch(image):
        raise ReleaseError(
            f"PYTHON_IMAGE={image or '(empty)'}: name the base image by digest, such as"
            " docker.io/library/python:3.11-slim@sha256:…; `skopeo inspect docker://IMAGE` prints it"
        )
    return image
