"""What a release is made of, and what is refused before anything is built."""

import json
import tomllib
from pathlib import Path

import pytest

from release import mirror, parts
from release.chart import release_text
from release.checksums import sums_text
from release.images import Build, build_words, digest_of
from release.parts import IMAGES, ReleaseError
from release.sbom import components, differences, installed
from release.source import stated_versions

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIGEST = "sha256:" + "a" * 64
BASE = f"docker.io/library/python:3.11-slim@{DIGEST}"


def test_an_image_has_the_name_that_the_chart_looks_for() -> None:
    names = {image.key: (image.archive("0.1.0"), image.tag("0.1.0")) for image in IMAGES}
    assert names["server"] == ("vicuna-server-0.1.0.oci.tar", "0.1.0")
    assert names["server-cuda"] == ("vicuna-server-0.1.0-cuda.oci.tar", "0.1.0-cuda")
    assert len(set(names.values())) == len(IMAGES)


def test_every_dockerfile_is_released() -> None:
    assert {image.dockerfile for image in IMAGES} == {
        str(file.relative_to(ROOT)) for file in (ROOT / "images").glob("*.Dockerfile")
    }


def test_images_can_be_chosen() -> None:
    assert parts.chosen("") == IMAGES
    assert [image.key for image in parts.chosen("gateway, operator")] == ["operator", "gateway"]
    with pytest.raises(ReleaseError, match="'gatway'; there are operator, server,"):
        parts.chosen("gatway")


@pytest.mark.parametrize(
    ("version", "said"), [("", "such as 0.1.0"), ("v0.1.0", "such as"), ("0.2.0", "pyproject.toml says 0.1.0")]
)
def test_a_version_that_no_file_states_is_refused(version: str, said: str) -> None:
    with pytest.raises(ReleaseError, match=said):
        parts.checked_version(version, {"pyproject.toml": "0.1.0"})


def test_the_version_of_this_tree_is_accepted() -> None:
    assert parts.checked_version(PROJECT["version"], stated_versions(ROOT)) == PROJECT["version"]


@pytest.mark.parametrize("base", ["", "python:3.11-slim", "python@sha256:abc", f"python@{DIGEST}0"])
def test_a_base_without_a_digest_is_refused(base: str) -> None:
    with pytest.raises(ReleaseError, match="by digest"):
        parts.checked_base(base)
    assert parts.checked_base(BASE) == BASE


def test_the_builder_gets_base_platforms_and_labels_and_torch_where_it_is_for_cpus() -> None:
    build = Build("0.1.0", BASE, "c0ffee", 7, "linux/amd64,linux/arm64", ("TORCH_INDEX_URL=u",))
    words = {image.key: " ".join(build_words(image, build)) for image in IMAGES}
    assert all(f"--build-arg PYTHON_IMAGE={BASE}" in text for text in words.values())
    assert all("--platform linux/amd64,linux/arm64" in text for text in words.values())
    assert all(f"--label org.opencontainers.image.base.digest={DIGEST}" in text for text in words.values())
    assert [key for key, text in words.items() if "TORCH_INDEX_URL" in text] == ["server"]
    assert "--build-arg VARIANT=cuda" in words["server-cuda"]
    assert "--manifest localhost/vicuna-server:0.1.0-cuda " in words["server-cuda"]


def test_an_archives_digest_is_that_of_its_one_image() -> None:
    assert digest_of({"manifests": [{"digest": DIGEST}]}) == DIGEST
    with pytest.raises(ReleaseError, match="not of 0"):
        digest_of({"manifests": []})


def test_checksums_are_as_sha256sum_reads_them() -> None:
    assert sums_text({"b": "2", "a": "1"}) == "1  a\n2  b\n"


def test_a_list_of_parts_is_compared_with_what_is_installed() -> None:
    listed = components({"components": [{"name": "PyYAML", "version": "6.0"}, {"name": "a_b", "version": "1"}]})
    found = installed(
        [{"name": "pyyaml", "version": "6.0"}, {"name": "a.b", "version": "2"}, {"name": "c", "version": "3"}]
    )
    assert differences(listed, listed) == []
    assert differences(listed, found) == ["a-b: 1 listed, 2 installed", "c: missing listed, 3 installed"]
    assert differences({"d": "1"}, {}) == ["d: 1 listed, nothing installed"]


RELEASE = {"registry": "r.example/o", "version": "0.1.0", "digests": {"gateway": DIGEST, "server-cuda": DIGEST}}


def test_a_mirror_takes_each_image_by_its_digest() -> None:
    assert mirror.copies(RELEASE, "m.example/x") == [
        (f"r.example/o/vicuna-server@{DIGEST}", "m.example/x/vicuna-server:0.1.0-cuda"),
        (f"r.example/o/vicuna-gateway@{DIGEST}", "m.example/x/vicuna-gateway:0.1.0"),
    ]
    with pytest.raises(ReleaseError, match="no release that is in a registry"):
        mirror.copies({**RELEASE, "registry": ""}, "m")


def test_the_charts_own_file_is_that_of_no_release() -> None:
    stated = json.loads((ROOT / "charts/vicuna-operator/files/release.json").read_text())
    assert stated == json.loads(release_text("", {}))
