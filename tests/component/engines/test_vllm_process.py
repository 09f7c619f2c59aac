"""`vicuna-server serve --engine vllm` as a process: without torch, and its drain, in front of a vLLM server's."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import httpx
import pytest

from support.engine_pod import prestop_hook
from support.engines import FAKE, VllmProcess, vllm_process
from support.serving import write_tiny_model

START_SECONDS = 60.0
# Imported before anything else: these modules are not found, as if they were not installed.
WITHOUT = """
from importlib.machinery import PathFinder

refused, find = {"torch", "transformers", "accelerate", "safetensors", "numpy"}, PathFinder.find_spec

def find_spec(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in refused else find(name, path, target)

PathFinder.find_spec = classmethod(find_spec)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", heads=1)


@pytest.fixture
def vllm(folder: Path, tmp_path: Path) -> Iterator[VllmProcess]:
    speed = {"FAKE_VLLM_TOKENS": "10000", "FAKE_VLLM_TOKENS_PER_SECOND": "20"}
    with vllm_process(FAKE, folder, tmp_path / "vllm.log", "--shutdown-timeout", "1", **speed) as server:
        yield server


@dataclass(frozen=True)
class Front:
    """The process in front."""

    process: "subprocess.Popen[bytes]"
    url: str

    def status(self, path: str) -> int:
        """Return a path's status; 0: it cannot be reached."""
        try:
            return httpx.get(f"{self.url}{path}", timeout=10).status_code
        except httpx.TransportError:
            return 0

    def wait_until_ready(self) -> None:
        until = time.monotonic() + START_SECONDS
        while self.status("/readyz") != 200:
            assert time.monotonic() < until
            time.sleep(0.02)

    def ask(self, tokens: int) -> tuple[int, str | None, int]:
        """Stream an answer; return its status, finish reason and number of pieces."""
        body = {"model": "m", "prompt": "Hello", "max_tokens": tokens, "stream": True, "ignore_eos": True}
        count, reason = 0, None
        with httpx.stream("POST", f"{self.url}/v1/completions", json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    (choice,) = json.loads(line[6:])["choices"]
                    count, reason = count + bool(choice["text"]), choice["finish_reason"]
            return answer.status_code, reason, count


@contextmanager
def front(folder: Path, *words: str, **env: str) -> Iterator[Front]:
    command = [
        sys.executable,
        "-m",
        "vicuna_server",
        "serve",
        "--model",
        str(folder),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    command += ["--served-name", "m", *words]
    with NamedTemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, **env})
        try:
            yield Front(process, _address(process, Path(log.name)))
        finally:
            process.kill()
            process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Return where a server listens, as its first line says."""
    while True:
        text = log.read_text()
        if found := re.search(r"listening on (http://127\.0\.0\.1:\d+)", text):
            return found[1]
        assert process.poll() is None, text
        time.sleep(0.02)


def end_as_the_kubelet_does(server: Front, vllm: VllmProcess, drained: Path) -> None:
    """Tell both to end at once; vLLM's preStop hook comes first."""
    server.process.send_signal(signal.SIGTERM)
    subprocess.run(prestop_hook(drained), check=True, timeout=60)
    vllm.running.send_signal(signal.SIGTERM)


def test_a_drain_under_load_cuts_no_stream_refuses_nothing_and_lets_vllm_end_last(
    folder: Path, vllm: VllmProcess, tmp_path: Path
) -> None:
    drained = tmp_path / "run" / "drained"
    drained.parent.mkdir()
    drained.touch()  # of the life before
    words = ("--engine", "vllm", "--engine-url", vllm.url, "--drained-file", str(drained), "--drain-seconds", "2")
    with front(folder, *words) as server, ThreadPoolExecutor(24) as pool:
        server.wait_until_ready()
        assert not drained.exists()
        before = [pool.submit(server.ask, 100) for _ in range(8)]  # 5 seconds, longer than the grace
        while vllm.gauge("vllm:num_requests_running") < 8:
            time.sleep(0.02)
        ending = pool.submit(end_as_the_kubelet_does, server, vllm, drained)
        while server.status("/readyz") != 503:
            time.sleep(0.02)
        late = [pool.submit(server.ask, 10) for _ in range(8)]
        assert [one.result() for one in late] == [(200, "length", 10)] * 8
        assert not drained.exists()
        assert [one.result() for one in before] == [(200, "length", 100)] * 8
        assert server.process.wait(30) == 0
        assert drained.exists()
        ending.result()
    assert vllm.running.wait(30) == 0


def test_it_needs_neither_torch_nor_transformers(folder: Path, vllm: VllmProcess, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    env = {"PYTHONPATH": path, "VICUNA_ENGINE": "vllm", "VICUNA_ENGINE_URL": f"{vllm.url}/"}
    gone = subprocess.run(
        [sys.executable, "-c", "import torch"], env={**os.environ, **env}, capture_output=True, check=False
    )
    assert gone.returncode == 1
    with front(folder, **env) as server:
        server.wait_until_ready()
        assert server.ask(3) == (200, "length", 3)
        messages = [{"role": "user", "content": "Hello"}]
        body = {"model": "m", "messages": messages, "max_tokens": 2, "ignore_eos": True}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).json()
        assert answer["usage"]["completion_tokens"] == 2


def test_a_url_is_needed_and_what_is_none_is_wrong_usage(folder: Path, tmp_path: Path) -> None:
    log, drained = tmp_path / "log", tmp_path / "drained"
    log.touch()
    env = {**os.environ, "VICUNA_TERMINATION_LOG": str(log)}
    command = [
        sys.executable,
        "-m",
        "vicuna_server",
        "serve",
        "--model",
        str(folder),
        "--port",
        "0",
        "--engine",
        "vllm",
    ]
    command += ["--drained-file", str(drained)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "--engine-url" in done.stderr) == (64, True)
    assert json.loads(log.read_text())["reason"] == "UsageError"
    assert drained.exists()  # nobody drains any more: the engine need not wait
    done = subprocess.run(
        [*command, "--engine-url", "here"], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, "'here' is not an address such as" in done.stderr) == (64, True)
