"""Floods with and without a key against a gateway process: it survives, and a good client is served.

The gateway runs with the flags and within the memory of the chart (512 MiB; what it took at most is asked of the
kernel). Small floods always; 2 000 connections in `make test-full`. Measured is how much processor time the gateway's
event loop takes between a request and its answer: this is what a client waits for the gateway beside a flood, whatever
else flooder, client and the machine have to do meanwhile. What he waits by the clock is told as well.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import yaml

from support.floods import BAD_KEY, FLOODS
from support.gateway import chat
from support.raw import CHAT
from support.serving import NO_TLS, running
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway.keys import hash_of

VALUES = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "charts" / "vicuna-operator" / "values.yaml").read_text()
)
TESTS = Path(__file__).resolve().parents[1]
MIB = 2**20
LIMIT = int(VALUES["gateway"]["resources"]["limits"]["memory"].removesuffix("Mi")) * MIB
KEY = "good"


class Process:
    """The gateway."""

    def __init__(self, url: str, port: int, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.port = port
        self._process = process

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def most_memory(self) -> int:
        """Return the most that was resident at once, in bytes."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1]) * 1024

    def loop_seconds(self) -> float:
        """Return the processor time that its event loop, which is its first thread, has taken."""
        return int(Path(f"/proc/{self._process.pid}/schedstat").read_text().split()[0]) / 1e9


@asynccontextmanager
async def gateway_process(folder: Path, upstream: str) -> AsyncIterator[Process]:
    keys = folder / "keys.json"
    keys.write_text(json.dumps({name: {"sha256": hash_of(name)} for name in (KEY, BAD_KEY)}))
    words = [sys.executable, "-m", "vicuna_server.cli", "gateway", "--upstream", f"tiny={upstream}"]
    words += ["--keys-file", str(keys), "--host", "127.0.0.1", "--port", "0", "--metrics-port", "0"]
    words += ["--max-body-memory", str(LIMIT // 4), "--access-log", "off"]
    words += ["--max-connections", str(VALUES["gateway"]["maxConnections"])]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            ports = re.search(r"port (\d+), metrics on (\d+)", first)
            assert ports is not None, first
            drain = asyncio.create_task(asyncio.to_thread(process.stderr.read))
            yield Process(f"http://127.0.0.1:{ports[1]}", int(ports[1]), process)
        finally:
            process.kill()
        await drain


@contextmanager
def flooding(name: str, port: int, addresses: int, count: int) -> Iterator[subprocess.Popen[str]]:
    """Run a flood in a process of its own; it ends when its input does, once it has sent all it wanted."""
    words = [sys.executable, "-m", "support.floods", name, str(port), str(addresses), str(count)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, cwd=TESTS, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@dataclass
class Waited:
    """What each of the good client's answers took: seconds by the clock, and of the gateway's loop."""

    clock: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)


async def good_client(door: Process, flood: AbstractContextManager[subprocess.Popen[str]], least: int) -> Waited:
    """Ask again and again, each time over a connection of its own."""
    waited = Waited()
    headers = {"authorization": f"Bearer {KEY}", "connection": "close"}
    with flood as process:
        assert process.stdin is not None
        async with httpx.AsyncClient(base_url=door.url, timeout=60, verify=NO_TLS) as client:
            while process.poll() is None:
                if len(waited.clock) == least:
                    process.stdin.close()
                begun, before = time.perf_counter(), door.loop_seconds()
                response = await client.post(CHAT, json=chat(), headers=headers)
                waited.loop.append(door.loop_seconds() - before)
                waited.clock.append(time.perf_counter() - begun)
                assert response.status_code == 200, response.text
                assert (await client.get("/livez")).status_code == 200
        assert process.returncode == 0
    return waited


def p99(took: list[float]) -> float:
    return sorted(took)[min(len(took) - 1, int(len(took) * 0.99))]


@asynccontextmanager
async def gateway_before_a_server(folder: Path) -> AsyncIterator[Process]:
    engine = ScriptedEngine(ScriptedSettings(tokens=2))
    async with running(engine) as server, gateway_process(folder, server.url) as door:
        yield door


@pytest.mark.parametrize("addresses", [1, 8], ids=["one address", "eight addresses"])
async def test_small_floods(addresses: int, tmp_path: Path) -> None:
    async with gateway_before_a_server(tmp_path) as door:
        for name in FLOODS:
            await good_client(door, flooding(name, door.port, addresses, 200), 5)
            assert door.alive, name
            assert door.most_memory() < LIMIT, name


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("addresses", [1, 8], ids=["one address", "eight addresses"])
async def test_floods_of_2000_connections(addresses: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = {}
    async with gateway_before_a_server(tmp_path) as door:
        for name in FLOODS:
            waited = await good_client(door, flooding(name, door.port, addresses, 2000), 200)
            late[name] = p99(waited.loop)
            with capsys.disabled():
                print(
                    f"\n{name:24} p99 of {len(waited.loop)} requests {late[name] * 1e3:.0f} ms of the gateway's loop, "
                    f"{p99(waited.clock) * 1e3:.0f} ms by the clock; most memory {door.most_memory() / MIB:.0f} MiB",
                    end="",
                )
            assert door.alive, name
            assert door.most_memory() < LIMIT, name
    calm = late.pop("nobody")
    worst = max(late, key=lambda name: late[name])
    assert late[worst] <= calm + 0.1, (worst, late)
