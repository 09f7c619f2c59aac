"""A release goes into a registry and into a mirror of it, and keeps its digests (skipped without Debian's registry)."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from release.parts import IMAGES

from .conftest import PYTHON, Steps
from .registry import missing, registry, write_image

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}"),
]
VERSION = "0.1.0"
VALIDATED = """
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
text = open(sys.argv[1]).read()
version = SchemaVersion.from_version(json.loads(text)["specVersion"])
sys.exit(str(JsonStrictValidator(version).validate_str(text) or "") or None)
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def digests() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def pushed(address: str, digests: dict[str, str], steps: Steps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose images are small ones, in the registry."""
    folder = tmp_path_factory.mktemp("release")
    for image in IMAGES:
        digests[image.key] = write_image(folder / image.archive(VERSION), image.key)
    where = f"Path({str(steps.root)!r}), Path({str(folder)!r}), {f'{address}/vicuna'!r}, {digests!r}, 1700000000"
    steps.call("release.chart", "package_chart", where)
    steps.call("release.checksums", "write_sums", f"Path({str(folder)!r})")
    steps.step("push", str(folder), "--plain-http")
    return folder


def inspected(steps: Steps, name: str) -> dict[str, Any]:
    done = steps.run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    found: dict[str, Any] = json.loads(done.stdout)
    found["digest"] = f"sha256:{hashlib.sha256(done.stdout.encode()).hexdigest()}"
    return found


def test_every_image_is_there_for_all_platforms_under_its_archives_digest(
    pushed: Path, address: str, digests: dict[str, str], steps: Steps
) -> None:
    for image in IMAGES:
        by_tag = inspected(steps, f"{address}/vicuna/{image.repository}:{image.tag(VERSION)}")
        assert by_tag["digest"] == digests[image.key]
        assert len(by_tag["manifests"]) == 2
        by_digest = inspected(steps, f"{address}/vicuna/{image.repository}@{digests[image.key]}")
        assert by_digest == by_tag


def rendered(steps: Steps, chart: str, *words: str) -> str:
    flags = ["--plain-http", "--version", VERSION, "--set", "gateway.enabled=true", *words]
    return steps.run("helm", "template", "vo", chart, *flags).stdout


def test_the_chart_of_the_registry_names_the_images_by_digest(
    pushed: Path, address: str, digests: dict[str, str], steps: Steps
) -> None:
    chart = f"oci://{address}/vicuna/charts/vicuna-operator"
    text = rendered(steps, chart)
    for image in IMAGES:
        name = f'"{address}/vicuna/{image.repository}:{image.tag(VERSION)}@{digests[image.key]}"'
        assert (name in text) is (image.key != "server-cuda"), name
    assert digests["server-cuda"] in rendered(steps, chart, "--set", "serverImage.cuda=true")
    own = rendered(steps, chart, "--set", "image.repository=own.example/operator", "--set", "gateway.image.tag=mine")
    assert f'"own.example/operator:{VERSION}"' in own
    assert f'"{address}/vicuna/vicuna-gateway:mine"' in own
    assert digests["operator"] not in own


def test_a_mirror_has_the_same_digests_and_a_chart_that_takes_them(
    pushed: Path, address: str, digests: dict[str, str], steps: Steps
) -> None:
    chart, mirror = f"oci://{address}/vicuna/charts/vicuna-operator", f"{address}/mirror"
    listed = steps.step("mirror", chart, "--version", VERSION, "--plain-http").stdout.splitlines()
    assert listed == [f"{address}/vicuna/{image.repository}@{digests[image.key]}" for image in IMAGES]
    steps.step("mirror", chart, "--version", VERSION, "--plain-http", "--to", mirror)
    for image in IMAGES:
        assert inspected(steps, f"{mirror}/{image.repository}@{digests[image.key]}")["manifests"]
    text = rendered(steps, f"oci://{mirror}/charts/vicuna-operator", "--set", f"registry={mirror}")
    assert f"{mirror}/vicuna-operator:{VERSION}@{digests['operator']}" in text
    assert f"{address}/vicuna/" not in text


def test_an_archive_with_a_flipped_bit_is_not_pushed(
    pushed: Path, address: str, digests: dict[str, str], steps: Steps, tmp_path: Path
) -> None:
    folder = shutil.copytree(pushed, tmp_path / "release")
    archive = folder / "vicuna-operator-0.1.0.oci.tar"
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"operator amd64", b"operatos amd64"))
    assert archive.read_bytes() != content
    done = steps.step("push", str(folder), "--plain-http", check=False)
    assert done.returncode == 1
    assert "vicuna-operator-0.1.0.oci.tar is not the file of SHA256SUMS" in done.stderr
    assert inspected(steps, f"{address}/vicuna/vicuna-operator:0.1.0")["digest"] == digests["operator"]


def test_parts_are_read_of_an_archive(pushed: Path, steps: Steps, tmp_path: Path) -> None:
    archive = pushed / "vicuna-gateway-0.1.0.oci.tar"
    steps.call("release.sbom", "write_sbom", f"Path({str(archive)!r}), Path({str(tmp_path / 'sbom.json')!r})")
    found = json.loads((tmp_path / "sbom.json").read_text())
    steps.run(PYTHON, "-c", VALIDATED, str(tmp_path / "sbom.json"))
    assert [(item["name"], item["version"]) for item in found["components"]] == [("gateway", "1.0")]
