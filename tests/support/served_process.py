"""`vicuna-server serve` as a process."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from support.serving import NO_TLS

__all__ = ["START_SECONDS", "Served", "process", "served", "wait_ready"]

START_SECONDS = 60


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen[str]
    url: str
    port: int


@contextmanager
def process(*words: str, **env: str) -> Iterator[Served]:
    """Run one of the server's commands on a free port; its first log line says which. `url` is that of the loopback."""
    command = [sys.executable, "-m", "vicuna_server", *words, "--port", "0"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **env})
    try:
        assert running.stderr is not None
        line = running.stderr.readline()
        found = re.search(r"listening on (?:http://\S+:|port )(\d+)", line)
        assert found, line
        yield Served(running, f"http://127.0.0.1:{found[1]}", int(found[1]))
    finally:
        running.kill()
        running.communicate()


@contextmanager
def served(folder: Path, *words: str, **env: str) -> Iterator[Served]:
    """Run `vicuna-server serve` on a free port of the loopback."""
    fixed = ["--host", "127.0.0.1", "--served-name", "m", "--revision", "r1"]
    with process("serve", "--model", str(folder), *fixed, *words, **env) as server:
        yield server


def wait_ready(server: Served) -> None:
    deadline = time.monotonic() + START_SECONDS
    while httpx.get(f"{server.url}/readyz", verify=NO_TLS).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
