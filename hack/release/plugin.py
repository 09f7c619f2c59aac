"""`kubectl-vicuna` as one file: our code, and what it needs for several platforms and versions of Python."""

import hashlib
import itertools
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from release import plugin_start
from release.commands import run
from release.locks import entries
from release.plugin_start import BUILD, PURE, WHEELS

__all__ = ["PLATFORMS", "PYTHONS", "archive_of", "build_plugin", "download_all", "members"]

PLATFORMS = (
    "manylinux_2_17_x86_64",
    "manylinux_2_17_aarch64",
    "macosx_11_0_arm64",
    "macosx_10_12_x86_64",
    "win_amd64",
)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_SHEBANG = b"#!/usr/bin/env python3\n"
_OURS = re.compile(r"vicuna_(contract|operator)/|.*\.dist-info/METADATA$")


def build_plugin(
    wheel: Path, lock: Path, output: Path, epoch: int, targets: Iterable[tuple[str, str]] | None = None
) -> Path:
    """Make the single file from the release's wheel and the lock of its dependencies.

    Args:
        wheel: Ours.
        lock: Requirements with hashes.
        output: The file to write.
        epoch: The time of all files in it.
        targets: Pairs of platform and version of Python; all that are supported by default.

    Raises:
        ReleaseError: a dependency cannot be had in the version of the lock.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        download_all(lock, folder, targets or itertools.product(PLATFORMS, PYTHONS))
        content = members(wheel, sorted(folder.glob("*.whl")))
    output.write_bytes(archive_of(content, epoch))
    output.chmod(0o755)
    return output


def download_all(lock: Path, folder: Path, targets: Iterable[tuple[str, str]]) -> None:
    """Fetch the wheels of all targets; one that serves them all is fetched once."""
    wanted = entries(lock.read_text())
    rest = folder / lock.name
    for platform, version in targets:
        rest.write_text("".join(wanted.values()))
        _download(rest, folder, platform, version)
        pure = {wheel.name.partition("-")[0].replace("_", "-").lower() for wheel in folder.glob("*-none-any.whl")}
        wanted = {name: text for name, text in wanted.items() if name not in pure}


def _download(lock: Path, folder: Path, platform: str, version: str) -> None:
    words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    words += ["--only-binary=:all:", "--require-hashes", "--requirement", str(lock), "--dest", str(folder)]
    words += ["--platform", platform, "--python-version", version, "--implementation", "cp"]
    run(*words, "--abi", f"cp{version.replace('.', '')}", "--abi", "none")


def members(wheel: Path, dependencies: Iterable[Path]) -> dict[str, bytes]:
    """Return the names and bytes that the single file has: pure wheels unpacked, compiled ones whole."""
    found = {f"{PURE}{name}": content for name, content in _content(wheel).items() if _OURS.match(name)}
    for dependency in dependencies:
        if dependency.name.endswith("-none-any.whl"):
            found |= {f"{PURE}{name}": content for name, content in _content(dependency).items()}
        else:
            found[f"{WHEELS}{dependency.name}"] = dependency.read_bytes()
    build = hashlib.sha256()
    for name in sorted(found):
        build.update(name.encode() + hashlib.sha256(found[name]).digest())
    start = Path(plugin_start.__file__).read_bytes()
    return {**found, BUILD: build.hexdigest()[:20].encode(), "__main__.py": start}


def _content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as packed:
        return {name: packed.read(name) for name in packed.namelist() if not name.endswith("/")}


def archive_of(content: Mapping[str, bytes], epoch: int) -> bytes:
    """Return a zip that Python runs: the same bytes for the same members and time."""
    with tempfile.TemporaryFile() as file:
        file.write(_SHEBANG)
        with zipfile.ZipFile(file, "w") as packed:
            time = datetime.fromtimestamp(epoch, UTC).timetuple()[:6]
            for name in sorted(content):
                about = zipfile.ZipInfo(name, date_time=time)
                about.external_attr = 0o644 << 16
                about.compress_type = zipfile.ZIP_STORED if name.endswith(".whl") else zipfile.ZIP_DEFLATED
                packed.writestr(about, content[name])
        file.seek(0)
        return file.read()
