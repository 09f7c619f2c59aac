"""What of a release can be made without an image builder, made by its own commands (`make test-release`)."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from .conftest import ROOT, Steps

PLATFORM = f"manylinux_2_17_{sysconfig.get_platform().rpartition('-')[2]}"
SOURCES = ("contract", "operator", "server", "crds", "hack", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")
EPOCH = 1_700_000_000

pytestmark = pytest.mark.timeout(600)


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources at another place, with other times and rights."""
    folder = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, folder / name, copy_function=shutil.copy, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(source, folder / name)
    for file in folder.rglob("*.py"):
        file.chmod(0o664)
        os.utime(file, (1, 1))
    return folder


@pytest.fixture(scope="module")
def wheel(steps: Steps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(steps, ROOT, tmp_path_factory.mktemp("first"))


def build_wheel(steps: Steps, tree: Path, output: Path) -> Path:
    steps.call("release.wheels", "build_wheel", f"Path({str(tree)!r}), Path({str(output)!r}), {EPOCH}")
    (file,) = output.glob("*.whl")
    return file


def test_the_wheel_is_the_same_wherever_it_is_built(steps: Steps, wheel: Path, tree: Path, tmp_path: Path) -> None:
    assert sha256(build_wheel(steps, tree, tmp_path)) == sha256(wheel)


def test_the_chart_is_the_same_whenever_it_is_packaged(steps: Steps, tmp_path: Path) -> None:
    packages: list[Path] = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        where = f"Path({str(ROOT)!r}), Path({str(tmp_path / name)!r}), 'r.example/o', {{'operator': 'sha256:0'}}"
        steps.call("release.chart", "package_chart", f"{where}, {EPOCH}")
        packages += (tmp_path / name).glob("*.tgz")
    assert len({sha256(package) for package in packages}) == 1
    assert len(packages) == 2


@pytest.fixture(scope="module")
def plugin(steps: Steps, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    file = tmp_path_factory.mktemp("plugin") / "kubectl-vicuna"
    steps.step("plugin", str(wheel), "--output", str(file), "--target", f"{PLATFORM}:{version}")
    return file


def test_the_plugin_is_one_file_that_runs_with_nothing_installed(steps: Steps, plugin: Path, tmp_path: Path) -> None:
    """-I: neither this environment's packages nor the tree's are on its path."""
    python = str(Path(sys.base_prefix) / "bin" / "python3")
    for _ in range(2):
        done = steps.run(python, "-I", str(plugin), "--version", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert re.fullmatch(r"kubectl-vicuna \d+\.\d+\.\d+\n", done.stdout)
    assert len(list((tmp_path / "cache/kubectl-vicuna").iterdir())) == 1
    done = steps.run(python, "-I", str(plugin), "status", "x", cwd=tmp_path, check=False, PATH="/none", HOME="/proc")
    assert "kubectl" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_plugin_says_so_where_a_python_is_not_in_it(steps: Steps, plugin: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.abiflags = 'x'; import runpy; runpy.run_path({str(plugin)!r}, run_name='__main__')"
    python = str(Path(sys.base_prefix) / "bin" / "python3")
    done = steps.run(python, "-I", "-c", code, cwd=tmp_path, check=False, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "this file has nothing for Python" in done.stderr


def documented() -> list[str]:
    """The commands in docs/releasing.md that check a release."""
    text = (ROOT / "docs/releasing.md").read_text()
    (block,) = [block for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL) if "-Y verify" in block]
    return [line for line in block.replace("\\\n", " ").splitlines() if line]


@pytest.fixture
def release(steps: Steps, tmp_path: Path) -> Path:
    """A folder as of a release, signed; the public key is where the documents say it is."""
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "kubectl-vicuna").write_bytes(b"a plugin")
    (folder / "vicuna-operator-0.1.0.tgz").write_bytes(b"a chart")
    steps.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key"))
    steps.call("release.checksums", "write_sums", f"Path({str(folder)!r})")
    steps.step("sign", str(folder), str(tmp_path / "key"))
    public = (tmp_path / "key.pub").read_text()
    (folder / "allowed_signers").write_text(f'release@vicuna-operator namespaces="vicuna-release" {public}')
    return folder


def verified(steps: Steps, folder: Path) -> subprocess.CompletedProcess[str]:
    return steps.run("bash", "-e", "-o", "pipefail", "-c", "\n".join(documented()), cwd=folder, check=False)


def test_the_documented_commands_accept_a_release(steps: Steps, release: Path) -> None:
    assert any("sha256sum" in command for command in documented())
    done = verified(steps, release)
    assert done.returncode == 0, done.stderr
    assert "kubectl-vicuna: OK" in done.stdout
    (release / "vicuna-operator-0.1.0.tgz").unlink()
    assert verified(steps, release).returncode == 0, "who fetched one file can check that one"


@pytest.mark.parametrize("name", ["kubectl-vicuna", "vicuna-operator-0.1.0.tgz", "SHA256SUMS"])
def test_one_flipped_bit_is_refused(steps: Steps, release: Path, name: str) -> None:
    content = bytearray((release / name).read_bytes())
    content[3] ^= 1
    (release / name).write_bytes(content)
    assert verified(steps, release).returncode != 0


def test_a_signature_of_another_key_or_purpose_is_refused(steps: Steps, release: Path, tmp_path: Path) -> None:
    sums, signature = release / "SHA256SUMS", release / "SHA256SUMS.sig"
    steps.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other"))
    for key, namespace in (("other", "vicuna-release"), ("key", "file")):
        signature.unlink()
        steps.run("ssh-keygen", "-q", "-Y", "sign", "-f", str(tmp_path / key), "-n", namespace, str(sums))
        assert verified(steps, release).returncode != 0, shlex.join([key, namespace])
