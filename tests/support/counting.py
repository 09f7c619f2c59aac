"""Many different requests, of which a third are left or cut at random moments, and what servers say they have cost."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from support.gateway import QUESTION, Gateway, _serving, chat, until_one_ends
from support.serving import Running, eventually
from vicuna_server.protocol.counts import Used

__all__ = ["Mixture", "cutting", "metric", "told"]

CHAT, TEXT, VECTORS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"


def metric(text: str, name: str) -> int:
    """Return a metric's sum over its labels."""
    lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return round(sum(float(line.rpartition(" ")[2]) for line in lines))


async def told(live: Running) -> Used:
    """Return the tokens that a server says all its requests have cost."""
    text = (await live.http.get("/metrics")).text
    kinds = (f'vicuna_usage_tokens_total{{kind="{kind}"}}' for kind in Used._fields)
    return Used(*(sum(int(float(line.split()[1])) for line in text.splitlines() if line.startswith(k)) for k in kinds))


@dataclass
class Mixture:
    """Draws requests.

    Args:
        dice: decides.
        progress: the tokens that all servers have generated so far.
        patience: so many of them at most come before a client leaves; a time would be none on a busy machine.
        longest: the most tokens of an answer that is waited for.

    Attributes:
        left: answers that did not come to their end.
    """

    dice: random.Random
    progress: Callable[[], int]
    patience: int
    longest: int
    left: int = 0

    def draw(self, tokens: int) -> tuple[str, dict[str, Any]]:
        """Return a path and a body; some are refused."""
        dice, words = self.dice, " ".join("word" for _ in range(self.dice.randint(1, 30)))
        limits: dict[str, Any] = {"max_tokens": tokens, "ignore_eos": True}
        if dice.random() < 0.2:
            limits["n"] = dice.randint(2, 3)
        if dice.random() < 0.6:
            limits |= {"stream": True, **({"stream_options": {"include_usage": True}} if dice.random() < 0.5 else {})}
        kind = dice.random()
        if kind < 0.5:
            return CHAT, chat(words=words, **limits)
        if kind < 0.8:
            return TEXT, {"model": "tiny", "prompt": [words] * dice.choice([1, 1, 2]), **limits}
        if kind < 0.85:
            return TEXT, {"model": "tiny", "prompt": words, "max_tokens": 0, "echo": True, "logprobs": 1}
        if kind < 0.95:
            return VECTORS, {"model": "tiny", "input": [words] * dice.randint(1, 3)}
        return dice.choice([(CHAT, chat(max_tokens=10**6)), (CHAT, chat(temperature=9)), (TEXT, {"model": "tiny"})])

    async def send(self, door: Gateway) -> None:
        """Send one request; two of five clients ask for much, and leave before they have it."""
        leaving = self.dice.random() < 0.4
        path, body = self.draw(2000 if leaving else self.dice.randint(1, self.longest))
        asking = asyncio.create_task(door.client.post(path, json=body))
        if leaving:
            moment = self.progress() + self.dice.randint(0, self.patience)
            await eventually(lambda: asking.done() or self.progress() >= moment)
            asking.cancel()
        try:
            assert ": vicuna" not in (await asking).text
        except (asyncio.CancelledError, httpx.HTTPError):  # it has left, or its answer was cut
            self.left += 1

    async def all(self, door: Gateway, count: int, at_once: int) -> None:
        """Send so many requests, so many side by side."""
        left = iter(range(count))

        async def one_after_another() -> None:
            for _ in left:
                await self.send(door)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(one_after_another())


@asynccontextmanager
async def cutting(url: str, dice: random.Random, share: float) -> AsyncIterator[str]:
    """A proxy of bytes before a server; each piece of an answer may be the last of its connection, but for counts."""
    address = httpx.URL(url)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(address.host, address.port)
        asked = b""

        async def out() -> None:
            nonlocal asked
            while data := await reader.read(65536):
                asked = data
                back.write(data)

        async def home() -> None:
            while data := await there.read(65536):
                if not asked.startswith(QUESTION) and dice.random() < share:
                    return
                writer.write(data)

        await until_one_ends(back, out(), home())

    async with _serving(connect) as proxy:
        yield proxy
