import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vicuna_operator import __version__
from vicuna_operator.cli import main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"vicuna-operator {__version__}\n"


def test_a_wrong_setting_is_one_line_and_exit_code_64(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VICUNA_SERVER_IMAGE", raising=False)
    assert main(["run"]) == 64
    error = capsys.readouterr().err
    assert error.startswith("vicuna-operator: VICUNA_SERVER_IMAGE ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["run", "--no-such-flag", "1"]])
def test_wrong_usage_is_exit_code_64(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 64
    assert "usage: vicuna-operator" in capsys.readouterr().err


def test_run_help_names_flags_and_variables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "--server-image" in text
    assert "[VICUNA_SERVER_IMAGE]" in text
    assert "--pod-name" in text


def run(arguments: list[str], tmp_path: Path, kubeconfig: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("VICUNA_", "POD_", "KUBE"))}
    return subprocess.run(
        [sys.executable, "-m", "vicuna_operator", "run", "--server-image", "i", *arguments],
        env=environ | {"KUBECONFIG": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def config_for(server: str) -> str:
    return (
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], "
        f"clusters: [{{name: c, cluster: {{server: '{server}'}}}}], users: [{{name: u, user: {{token: t}}}}]}}"
    )


@pytest.mark.long
def test_no_cluster_is_one_line_and_exit_code_69(tmp_path: Path) -> None:
    done = run(["--health-port", "0"], tmp_path, config_for("http://127.0.0.1:9"))
    assert done.returncode == 69, done.stderr
    assert done.stderr.startswith("vicuna-operator: cannot use the cluster: http://127.0.0.1:9: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.long
def test_a_broken_kubeconfig_is_one_line_and_exit_code_69(tmp_path: Path) -> None:
    done = run(["--health-port", "0"], tmp_path, "{apiVersion: v1, clusters: nonsense")
    assert done.returncode == 69, done.stderr
    assert done.stderr.startswith("vicuna-operator: no cluster: ")
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_health_port_in_use_is_one_line_and_exit_code_69(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run(["--health-port", port], tmp_path, config_for("http://127.0.0.1:9"))
    assert done.returncode == 69, done.stderr
    assert port in done.stderr
    assert "VICUNA_HEALTH_PORT" in done.stderr
    assert done.stderr.count("\n") == 1
