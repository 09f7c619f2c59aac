"""Where a local run listens, keeps its data and finds the command: what is wrong is told before the merge."""

import socket
from pathlib import Path

import pytest

from vicuna_operator.cli import main
from vicuna_operator.local.cli import _free_port
from vicuna_operator.local.up import LocalRun

MANIFEST = """
apiVersion: vicuna.dev/v1alpha1
kind: VicunaModel
metadata: {name: demo}
spec:
  weights: {base: {source: "file:///weights/base"}}
  serving: {numGpus: 0}
"""
NO_FOLDER = "/dev/null/data"


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    (tmp_path / "model.yaml").write_text(MANIFEST)
    return str(tmp_path / "model.yaml")


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("::1", "http://[::1]:80"), ("box", "http://box:80")],
)
def test_the_address_is_a_url(host: str, url: str) -> None:
    assert LocalRun(model=None, data=Path(), host=host, port=80).url == url  # type: ignore[arg-type]


def test_port_0_is_a_free_one() -> None:
    port = _free_port("127.0.0.1", 0)
    assert port > 0
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--port", "-1"], 64, "argument --port: '-1' is not a whole number of 0 or more"),
        (["--port", "99999"], 64, "argument --port: 99999 is not a port; ports end at 65535"),
        (["--data", ""], 64, "argument --data: '' is not a folder on this machine"),
        (["--port", "0", "--data", NO_FOLDER], 65, f"--data {NO_FOLDER}: {NO_FOLDER}/volumes/"),
        (["--port", "0", "--", "no-such-program"], 66, "no-such-program is no program that can be run; correct the"),
    ],
)
def test_what_cannot_be_is_named(
    words: list[str], code: int, says: str, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        got = main(["up", manifest, *words])
    except SystemExit as error:
        got = int(error.code or 0)
    assert got == code
    assert says in capsys.readouterr().err
