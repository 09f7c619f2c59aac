"""A whole release: all its files in one folder, and their way into a registry."""

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from release import images, source
from release.changelog import date_of, folded, notes
from release.changes import read_changes
from release.chart import CHART, package_chart, push_chart, release_of
from release.checksums import check_sums, write_sums
from release.commands import words_of
from release.parts import IMAGES, Image, ReleaseError, checked_base, checked_version, chosen
from release.plugin import build_plugin
from release.sbom import write_sbom
from release.source import TREE
from release.wheels import build_wheel

__all__ = ["PLUGIN_LOCK", "Wanted", "build", "push"]

PLUGIN_LOCK = TREE / "hack/release/plugin.txt"
NOTES = "release-notes.md"
_PROGRAMS = ("git", "helm", "skopeo", "ssh-keygen")


class Wanted(NamedTuple):
    """What a release is made of."""

    version: str
    base: str
    output: Path
    registry: str
    images: str
    platforms: str


def build(wanted: Wanted) -> None:
    """Make all files of a release, and SHA256SUMS over them; the folder is emptied first.

    Raises:
        ReleaseError: something is not as it has to be; said before anything is built where that can be known.
    """
    selected = chosen(wanted.images)
    common = _checked(wanted)
    text = _notes(common)
    folder = wanted.output.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wheel = build_wheel(TREE, folder, common.epoch)
    with ThreadPoolExecutor() as aside:  # images are built one after another; what can goes on beside the next one
        plugin = aside.submit(build_plugin, wheel, PLUGIN_LOCK, folder / "kubectl-vicuna", common.epoch)
        finished = {}
        for image in selected:
            images.build_image(TREE, image, common)
            finished[image.key] = aside.submit(_archive, image, common.version, folder)
    plugin.result()
    digests = {key: archive.result() for key, archive in finished.items()}
    package_chart(TREE, folder, wanted.registry, digests, common.epoch)
    (folder / NOTES).write_text(text + _of_images(wanted, digests))
    write_sums(folder)


def push(folder: Path, *, plain_http: bool) -> None:
    """Copy the images of a release, then its chart, into the registry that the chart names.

    Raises:
        ReleaseError: it names none, a file is not that of SHA256SUMS, or something could not be copied.
    """
    check_sums(folder)
    (package,) = folder.glob(f"{CHART}-[0-9]*.tgz")
    release = release_of(package)
    if not release["registry"]:
        raise ReleaseError("this release names no registry; make it again with REGISTRY=REGISTRY/OWNER")
    for image in IMAGES:
        if image.key in release["digests"]:
            target = f"{release['registry']}/{image.repository}:{image.tag(release['version'])}"
            images.push_image(folder / image.archive(release["version"]), target, plain_http=plain_http)
    push_chart(package, release["registry"], plain_http=plain_http)


def _checked(wanted: Wanted) -> images.Build:
    version = checked_version(wanted.version, source.stated_versions(TREE))
    base = checked_base(wanted.base)
    source.check_clean(TREE)
    for program in (*_PROGRAMS, images.buildah()[0]):
        if shutil.which(program) is None:
            raise ReleaseError(f"{program} is not installed; docs/releasing.md names what a release needs")
    torch = tuple(words_of("TORCH_ARGS"))
    return images.Build(version, base, source.commit(TREE), source.commit_time(TREE), wanted.platforms, torch)


def _notes(common: images.Build) -> str:
    """Return the notes of the version as they are once `make changelog` has moved the changes, which may be later."""
    changelog, changes = (TREE / "CHANGELOG.md").read_text(), read_changes(TREE).values()
    return notes(folded(changelog, common.version, date_of(common.epoch), changes), common.version)


def _archive(image: Image, version: str, folder: Path) -> str:
    """Write the archive of an image that is built, and its list of parts; return its digest."""
    archive = images.archive_image(image, version, folder)
    write_sbom(archive, folder / image.sbom(version))
    return images.digest_in(archive)


def _of_images(wanted: Wanted, digests: Mapping[str, str]) -> str:
    prefix = f"{wanted.registry}/" if wanted.registry else ""
    rows = [
        f"| `{prefix}{image.repository}:{image.tag(wanted.version)}` | `{digests[image.key]}` |"
        for image in IMAGES
        if image.key in digests
    ]
    return "\n## Images\n\n| image | digest |\n|---|---|\n" + "\n".join(rows) + "\n"
