"""vLLM servers for tests: the stand-in, and a real one.

`VICUNA_VLLM` is the bin folder of an environment with vLLM, whose servers tests start; or the URL of a server that runs
already and is used by all tests, where `VICUNA_VLLM_MODEL` names the folder that it serves (as `write_tiny_model`
writes it, with one head and a context of 1024).
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from support import vllm

__all__ = ["FAKE", "REAL", "VLLM_FLAGS", "VllmProcess", "free_port", "real_vllm", "running_real", "vllm_process"]

FAKE, REAL = "fake", "real"
VLLM_FLAGS = (
    *("--generation-config", "vllm", "--enable-prompt-tokens-details", "--shutdown-timeout", "60"),
    *("--structured-outputs-config.backend", "guidance"),
)
_REAL_FLAGS = (
    *("--enforce-eager", "--dtype", os.environ.get("VICUNA_VLLM_DTYPE", "float32"), "--disable-fastapi-docs"),
    *("--structured-outputs-config.backend", "guidance"),
    *shlex.split(os.environ.get("VICUNA_VLLM_FLAGS", "")),
)
_REAL_ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "0-1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}
START_SECONDS = {FAKE: 30.0, REAL: 400.0}


def real_vllm() -> str:
    """Return what `VICUNA_VLLM` says; empty: there is no real vLLM."""
    return os.environ.get("VICUNA_VLLM", "")


def running_real() -> bool:
    """Whether the real one runs already."""
    return real_vllm().startswith("http://")


def free_port() -> int:
    """Return a port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class VllmProcess:
    """`vllm serve` of one folder, which can be started again on its port."""

    kind: str
    folder: Path
    log: Path
    port: int = field(default_factory=free_port)
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it answers."""
        program, environment = [sys.executable, vllm.__file__], dict(self.environment)
        if self.kind == REAL:
            program, environment = [f"{real_vllm()}/vllm"], {**_REAL_ENVIRONMENT, **environment}
        flags = [*VLLM_FLAGS, *(_REAL_FLAGS if self.kind == REAL else ()), *self.flags]
        command = [*program, "serve", str(self.folder), "--host", "127.0.0.1", "--port", str(self.port), *flags]
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env={**inherited, **environment}, stdout=log, stderr=log)
        if wait:
            self.wait_until_up()

    def wait_until_up(self) -> None:
        """Wait until it answers."""
        until = time.monotonic() + START_SECONDS[self.kind]
        while not self.is_up():
            assert self.running.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def is_up(self) -> bool:
        """Whether `/health` says 200."""
        try:
            return httpx.get(f"{self.url}/health", timeout=10, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The process."""
        assert self.process is not None
        return self.process

    def gauge(self, name: str) -> float:
        """Return one of its metrics."""
        text = httpx.get(f"{self.url}/metrics", timeout=30, trust_env=False).text
        lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
        return float(lines[0].rsplit(" ", 1)[1])

    def cores(self) -> list[psutil.Process]:
        """Return the processes that compute."""
        return psutil.Process(self.running.pid).children(recursive=True)

    def signal_cores(self, number: signal.Signals) -> None:
        """Send a signal to the processes that compute."""
        for core in self.cores():
            core.send_signal(number)

    def kill(self) -> None:
        """End it with all that it has started, at once."""
        if self.process is None or self.process.poll() is not None:
            return
        cores = self.cores()
        self.process.kill()
        for core in cores:
            core.kill()
        self.process.wait()


@contextmanager
def vllm_process(kind: str, folder: Path, log: Path, *flags: str, **environment: str) -> Iterator[VllmProcess]:
    """Run a server until the block ends."""
    server = VllmProcess(kind, folder, log, flags=flags, environment=environment)
    if kind == REAL and running_real():
        server.port = int(real_vllm().rsplit(":", 1)[1])
        yield server
        return
    try:
        server.start()
        yield server
    finally:
        server.kill()
