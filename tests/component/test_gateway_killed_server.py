"""A server process is killed while it streams: no client sees it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path

import httpx

from support.gateway import Gateway, chat, gateway
from support.serving import eventually
from vicuna_server.artifacts.manifest import Inputs, Manifest, Recipe, Source, Tool

STREAMS, TOKENS, RATE = 20, 60, 20
ENV = {
    "VICUNA_ENGINE": "scripted",
    "VICUNA_SCRIPTED_TOKENS": str(TOKENS),
    "VICUNA_SCRIPTED_TOKENS_PER_SECOND": str(RATE),
}


def _artifact(folder: Path) -> Path:
    manifest = Manifest(
        artifact_id="0123456789abcdef",
        inputs=Inputs(base=Source(source="file:///base", fingerprint="x")),
        recipe=Recipe(kind="none", dtype="float16", version=1),
        chat_template="vicuna_v1.1",
        tensor_count=0,
        total_size=0,
        files=[],
        tool=Tool(name="test", version="0"),
    )
    folder.mkdir()
    (folder / "vicuna-manifest.json").write_text(manifest.to_json())
    return folder


@contextmanager
def _process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "vicuna_server", "serve", "--model", str(folder), "--served-name", "tiny"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", "0", "--access-log", "off"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENV},
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"listening on (http://\S+)", line)
        assert found, line
        while httpx.get(f"{found[1]}/readyz").status_code != 200:
            time.sleep(0.02)
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


class _Reader:
    """One client: the text that it got, and the longest time without any."""

    def __init__(self, number: int) -> None:
        self.words = [f"{number}-{place}" for place in range(number % 7 + 2)]
        self.text = ""
        self.gap = 0.0
        self.last = ""

    async def read(self, door: Gateway) -> None:
        moment = time.monotonic()
        body = chat(words=" ".join(self.words), stream=True)
        async with door.client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                now = time.monotonic()
                self.gap, moment, self.last = max(self.gap, now - moment), now, line
                assert '"error"' not in line, line
                if line != "data: [DONE]":
                    self.text += json.loads(line[6:])["choices"][0]["delta"].get("content", "")

    @property
    def expected(self) -> str:
        return "".join(f"{word} " for word in islice(cycle(self.words), TOKENS))


async def test_twenty_streams_survive_it(tmp_path: Path) -> None:
    folder = _artifact(tmp_path / "model")
    with ExitStack() as stack:
        servers = [stack.enter_context(_process(folder)) for _ in range(2)]
        async with gateway() as door:
            door.route(*(url for _, url in servers))
            readers = [_Reader(number) for number in range(STREAMS)]
            async with asyncio.TaskGroup() as group:
                for reader in readers:
                    group.create_task(reader.read(door))
                await eventually(lambda: min(len(reader.text) for reader in readers) >= 12)
                servers[0][0].send_signal(signal.SIGKILL)
            assert [reader.text for reader in readers] == [reader.expected for reader in readers]
            assert {reader.last for reader in readers} == {"data: [DONE]"}
            continued = door.metric("vicuna_gateway_streams_continued_total")
            print(f"{continued:.0f} streams went on; longest gap {max(reader.gap for reader in readers):.2f} s")
            assert continued > 0
            assert door.metric("vicuna_gateway_streams_broken_total") == 0
