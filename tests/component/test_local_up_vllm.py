"""`vicuna-operator up` with `serving.engine: vllm`: two processes, of which none is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from support.checkpoints import model_weights, write_checkpoint

MANIFEST = """
apiVersion: vicuna.dev/v1alpha1
kind: VicunaModel
metadata: {{name: tiny}}
spec:
  weights: {{base: {{source: "pvc://inputs/base"}}}}
  serving: {{numGpus: {gpus}, chatTemplate: vicuna_v1.1, engine: vllm, engineArgs: [--enforce-eager]}}
"""
FAKE = Path(__file__).parents[1] / "support" / "vllm.py"
ASK = """
import json, os, urllib.request as r
body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
words = json.dumps(body).encode(), {"content-type": "application/json"}
print(r.urlopen(r.Request(os.environ["VICUNA_URL"] + "/v1/chat/completions", *words)).read().decode())
"""
NOTING = f"""#!/bin/sh
printf '%s\\n' "$@" > argv
env > env
exec {sys.executable} {FAKE} "$@"
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_checkpoint(folder / "base", model_weights(1), "safetensors")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Up:
    """A place to run `up` in, with a program called vllm that notes how it was started."""

    def __init__(self, folder: Path, inputs: Path, gpus: int = 0) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "model.yaml").write_text(MANIFEST.format(gpus=gpus))
        self.vllm = folder / "vllm"
        self.vllm.write_text(NOTING)
        self.vllm.chmod(0o755)
        self.words = [sys.executable, "-m", "vicuna_operator", "up", "model.yaml", "--port", str(self.port)]
        self.words += ["--data", "data", "--volume", f"inputs={inputs}"]

    def run(self, *command: str, vllm: bool = True) -> "subprocess.CompletedProcess[str]":
        words = [*self.words, *(["--vllm", str(self.vllm)] if vllm else []), "--", *command]
        return subprocess.run(words, cwd=self.folder, env=ENVIRON, capture_output=True, text=True, timeout=120)

    @contextmanager
    def serving(self) -> Iterator["subprocess.Popen[str]"]:
        words = [*self.words, "--vllm", str(self.vllm)]
        with subprocess.Popen(words, cwd=self.folder, env=ENVIRON, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith("press Ctrl-C"):
                        break
                yield process
            finally:
                process.kill()


ENVIRON = {name: value for name, value in os.environ.items() if name != "VICUNA_ENGINE"}


@pytest.fixture
def up(tmp_path: Path, inputs: Path) -> Up:
    return Up(tmp_path, inputs)


def test_the_front_answers_with_what_the_engine_generates_and_both_end(up: Up) -> None:
    done = up.run(sys.executable, "-c", ASK)
    assert done.returncode == 0, done.stderr
    answer = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    assert answer["usage"]["completion_tokens"] == 4
    argv = (up.folder / "argv").read_text().split("\n")
    assert argv[:2] == ["serve", next(str(path) for path in (up.folder / "data").rglob("artifacts/*") if path.is_dir())]
    assert "--enforce-eager" in argv
    variables = (up.folder / "env").read_text()
    assert "VLLM_NO_USAGE_STATS=1" in variables
    assert "VLLM_CACHE_ROOT=" not in variables, "the user's own cache serves the next run too"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_it_no_process_is_left(up: Up, number: int) -> None:
    with up.serving() as process:
        below = psutil.Process(process.pid).children(recursive=True)
        assert len(below) >= 3, "the front, the keeper, vLLM"
        process.send_signal(number)
        _, alive = psutil.wait_procs(below, timeout=60)
        assert not alive


def test_an_engine_that_ends_is_told(up: Up) -> None:
    with up.serving() as process:
        (main,) = [one for one in psutil.Process(process.pid).children(recursive=True) if str(FAKE) in one.cmdline()]
        main.kill()
        assert process.wait(60) == 128 + signal.SIGKILL


def test_without_vllm_it_says_what_to_install(up: Up) -> None:
    done = up.run("true", vllm=False)
    assert done.returncode == 69
    assert "vllm is not installed; install vLLM 0.32, or name the program: --vllm PATH" in done.stderr


def test_a_program_that_is_not_there_is_wrong_usage(up: Up) -> None:
    up.vllm.unlink()
    done = up.run("true")
    assert done.returncode == 64
    assert f"--vllm {up.vllm}: there is no program" in done.stderr


def test_gpus_that_do_not_divide_the_heads_are_refused_before_anything_starts(tmp_path: Path, inputs: Path) -> None:
    up = Up(tmp_path, inputs, gpus=3)
    done = up.run("true")
    assert done.returncode == 65
    assert "spec.serving.numGpus: 3 GPUs cannot share the model's" in done.stderr
    assert not (up.folder / "argv").exists()
