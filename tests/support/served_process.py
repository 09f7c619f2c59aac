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

__all__ = ["START_SECONDS", "Served", "served", "wait_ready"]

START_SECONDS = 60


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen[str]
    url: str
    port: int


@contextmanager
def served(folder: Path, *words: str, **env: str) -> Iterator[Served]:
    """Start `vicuna-server serve` on a free port; its first log line says which."""
    command = [sys.executable, "-m", "vicuna_server", "serve", "--model", str(folder)]
    command += ["--host", "127.0.0.1", "--port", "0", "--served-name", "m", "--revision", "r1", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **env})
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"listening on (http://127\.0\.0\.1:(\d+))", line)
        assert found, line
        yield Served(process, found[1], int(found[2]))
    finally:
        process.kill()
        process.communicate()


def wait_ready(server: Served) -> None:
    deadline = time.monotonic() + START_SECONDS
    while httpx.get(f"{server.url}/readyz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
