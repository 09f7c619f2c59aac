"""Servers as processes: started, waited for, measured with all that they started, and ended with it."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import httpx
import psutil

__all__ = ["free_port", "processor_seconds", "resident_bytes", "spawn", "stop", "tree", "wait_for"]

START_SECONDS = 600.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def spawn(command: list[str], name: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process whose output goes to a log that is named after it."""
    log = Path(tempfile.gettempdir()) / f"bench-{name.replace(' ', '-').replace('/', '-')}-{os.getpid()}.log"
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=dict(environment))


def wait_for(url: str, process: subprocess.Popen[bytes], name: str, method: str = "GET") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            logs = f"{tempfile.gettempdir()}/bench-*-{os.getpid()}.log"
            raise SystemExit(f"{name} ended with code {process.returncode}; read its log, one of {logs}")
        try:
            if httpx.request(method, url, timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"{name} was not ready after {START_SECONDS:.0f} s")


def stop(process: subprocess.Popen[bytes] | None) -> None:
    """End a process and what it started; one that does not end in 30 s is killed."""
    if process is None:
        return
    started = tree(process.pid)
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for one in started:
        if one.is_running():
            one.kill()


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all that came from it; none if it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def processor_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the processor time of processes and of their children that have ended, user's and system's."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # its parent's times have it now
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_bytes(processes: Iterable[psutil.Process]) -> int:
    """Return the memory of processes; a page that several share counts once."""
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total
