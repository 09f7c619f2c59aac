"""A server process is killed while it streams: no client sees it."""

import asyncio
import json
import signal
import time
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path

from support.gateway import Gateway, chat, gateway
from support.served_process import served, wait_ready
from support.serving import eventually
from support.stream_artifact import stream_artifact

STREAMS, TOKENS, RATE = 20, 60, 20
ENV = {
    "VICUNA_ENGINE": "scripted",
    "VICUNA_SCRIPTED_TOKENS": str(TOKENS),
    "VICUNA_SCRIPTED_TOKENS_PER_SECOND": str(RATE),
}

WORDS = ("--served-name", "tiny", "--access-log", "off")


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
    folder = stream_artifact(tmp_path / "model")
    with ExitStack() as stack:
        servers = [stack.enter_context(served(folder, *WORDS, **ENV)) for _ in range(2)]
        for server in servers:
            wait_ready(server)
        async with gateway() as door:
            door.route(*(server.url for server in servers))
            readers = [_Reader(number) for number in range(STREAMS)]
            async with asyncio.TaskGroup() as group:
                for reader in readers:
                    group.create_task(reader.read(door))
                await eventually(lambda: min(len(reader.text) for reader in readers) >= 12)
                servers[0].process.send_signal(signal.SIGKILL)
            assert [reader.text for reader in readers] == [reader.expected for reader in readers]
            assert {reader.last for reader in readers} == {"data: [DONE]"}
            continued = door.metric("vicuna_gateway_streams_continued_total")
            print(f"{continued:.0f} streams went on; longest gap {max(reader.gap for reader in readers):.2f} s")
            assert continued > 0
            assert door.metric("vicuna_gateway_streams_broken_total") == 0
