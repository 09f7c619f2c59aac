"""Strangers and one key's owner against a gateway process, a good client beside them: it lives, and he is served.

The gateway runs with the flags and within the memory of the chart (512 MiB; what it took at most is asked of the
kernel). Small floods always; 2 000 connections in `make test-full`.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from support.floods import BAD_KEY, FLOODS
from support.gateway import chat
from support.raw import CHAT
from support.serving import running
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


async def good_client(url: str, flood: AbstractContextManager[subprocess.Popen[str]], least: int) -> list[float]:
    """Ask again and again, each time over a connection of its own, and return how long each answer took."""
    took = []
    headers = {"authorization": f"Bearer {KEY}", "connection": "close"}
    with flood as process:
        assert process.stdin is not None
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            while process.poll() is None:
                if len(took) == least:
                    process.stdin.close()
                begun = time.perf_counter()
                response = await client.post(CHAT, json=chat(), headers=headers)
                took.append(time.perf_counter() - begun)
                assert response.status_code == 200, response.text
                assert (await client.get("/livez", headers={"connection": "close"})).status_code == 200
        assert process.returncode == 0
    return took


async def endure(
    folder: Path, addresses: int, count: int, least: int, capsys: pytest.CaptureFixture[str]
) -> dict[str, float]:
    """Run every flood; return the good client's p99 of each, in seconds, and without one."""
    p99 = {}
    engine = ScriptedEngine(ScriptedSettings(tokens=2))
    async with running(engine) as server, gateway_process(folder, server.url) as door:
        for name in FLOODS:
            took = sorted(await good_client(door.url, flooding(name, door.port, addresses, count), least))
            assert door.alive, name
            p99[name] = took[min(len(took) - 1, int(len(took) * 0.99))]
            with capsys.disabled():
                print(
                    f"\n{name:24} p99 of {len(took)} requests {p99[name] * 1e3:.0f} ms, "
                    f"gateway's most memory {door.most_memory() / MIB:.0f} MiB",
                    end="",
                )
            assert door.most_memory() < LIMIT, name
    return p99


@pytest.mark.parametrize("addresses", [1, 8], ids=["one address", "eight addresses"])
async def test_small_floods(addresses: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await endure(tmp_path, addresses, 200, 5, capsys)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("addresses", [1, 8], ids=["one address", "eight addresses"])
async def test_floods_of_2000_connections(addresses: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    p99 = await endure(tmp_path, addresses, 2000, 100, capsys)
    calm = p99.pop("nobody")
    worst = max(p99, key=lambda name: p99[name])
    # On an idle machine the aim is 0.1 s more; one that has other work to do is slow with and without a flood.
    assert p99[worst] <= 1.0 + 20 * calm, worst
