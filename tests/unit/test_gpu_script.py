"""hack/test_gpu.sh, with a Python that notes what it is asked and fails as told."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "hack" / "test_gpu.sh"
PYTHON = """#!/bin/sh
echo "$VICUNA_VLLM_FLAGS:$*" >> {log}
case "$*" in {fails}) exit 1;; esac
"""
NO_CUDA, A_TEST = "*is_available*", '*"-m gpu"*'


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    return tmp_path


def run(
    venv: Path, *words: str, fails: str = "nothing", vllm: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    python = venv / "bin" / "python"
    python.write_text(PYTHON.format(log=venv / "log", fails=fails))
    python.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "VENV": str(venv), "VICUNA_DEMO_DIR": "pair"}
    if vllm is not None:
        environment["VICUNA_VLLM"] = str(vllm)
    return subprocess.run([SCRIPT, *words], env=environment, capture_output=True, text=True, timeout=30)


def asked(venv: Path) -> list[str]:
    return (venv / "log").read_text().splitlines()


def test_without_vllm_the_builtin_engine_is_alone_and_that_is_said(venv: Path) -> None:
    done = run(venv, "-x")
    assert done.returncode == 0
    assert "VICUNA_VLLM is not set, so the builtin engine is alone" in done.stdout
    lines = asked(venv)
    assert ":-m pytest tests/component -m gpu -x" in lines
    assert "--gpu-memory-utilization 0.3:-m pytest tests/component/engines -m not full -x" in lines
    assert lines[-1] == ":bench/chat.py --random 1b --model pair/base --device cuda --clients 1 8 32 128"


def test_with_vllm_both_engines_are_measured(venv: Path) -> None:
    (venv / "vllm").touch(mode=0o755)
    done = run(venv, vllm=venv)
    assert done.returncode == 0
    assert "alone" not in done.stdout
    assert asked(venv)[-1].endswith(f"--clients 1 8 32 128 --vllm {venv}")


def test_a_folder_without_vllm_is_refused(venv: Path) -> None:
    done = run(venv, vllm=venv)
    assert done.returncode == 64
    assert "which has no program vllm; name its folder" in done.stderr
    assert not (venv / "log").exists()


def test_a_failed_test_is_told_after_the_benchmark(venv: Path) -> None:
    assert run(venv, fails=A_TEST).returncode == 1
    assert "bench/chat.py" in asked(venv)[-1]


def test_without_a_gpu_there_is_no_benchmark(venv: Path) -> None:
    done = run(venv, fails=NO_CUDA)
    assert done.returncode == 0
    assert "no CUDA device here, so no benchmark" in done.stdout
    assert "bench/chat.py" not in "".join(asked(venv))
