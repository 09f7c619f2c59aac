"""A proxy of bytes that cuts the answers of a server at a given place, or says nothing more from there on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from support.gateway import QUESTION, _serving, until_one_ends

__all__ = ["Severed", "severed"]

_EVENT = b"\ndata:"


@dataclass
class Severed:
    """The proxy.

    Attributes:
        url: Its address.
        events: So many events come whole; None: all.
        more: So many bytes of the event behind them come too.
        silent: In place of cutting, it goes silent there until `resume` is set; no connection is closed.
        cut: How many answers it has cut, or gone silent in.
        asked: The requests that it passed on, but for those about counts.
    """

    url: str
    events: int | None
    more: int
    silent: bool = False
    cut: int = 0
    asked: list[bytes] = field(default_factory=list)
    resume: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def severed(
    url: str, events: int | None = None, more: int = 0, *, silent: bool = False
) -> AsyncIterator[Severed]:
    """Pass everything on, up to a place within an answer; then the connection is closed, or goes silent."""
    address, proxy = httpx.URL(url), Severed("", events, more, silent)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(address.host, address.port)
        came = b""

        async def out() -> None:
            nonlocal came
            while data := await reader.read(2**20):
                came = b""  # the connection may have had other requests before
                if not data.startswith(QUESTION):
                    proxy.asked.append(data)
                back.write(data)

        async def home() -> None:
            nonlocal came
            while data := await there.read(2**20):
                start, came = len(came), came + data
                end = _place(came, proxy)
                writer.write(came[start:end])
                await writer.drain()
                if end is not None:
                    proxy.cut += 1
                    if proxy.silent:
                        proxy.events = None
                        await proxy.resume.wait()
                        writer.write(came[end:])
                        continue
                    writer.close()
                    await writer.wait_closed()  # what was written arrives
                    return

        await until_one_ends(back, out(), home())

    async with _serving(connect) as proxy.url:
        yield proxy


def _place(came: bytes, proxy: Severed) -> int | None:
    """Return where the answer is cut; None: not yet."""
    place = 0
    if proxy.events is None or b"text/event-stream" not in came:
        return None
    for _ in range(proxy.events):
        place = came.find(_EVENT, place) + 1
        if not place:
            return None
    end = came.find(b"\n\n", place) + 2
    return end + proxy.more if end > 1 and len(came) >= end + proxy.more else None
