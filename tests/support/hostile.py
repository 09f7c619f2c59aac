"""A model server that a stranger wrote: it answers with whatever bytes, for as long and as slowly as it likes."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from support.gateway import QUESTION, UNKNOWN, _serving, chunk, head

Act = Callable[["Talk"], Awaitable[None]]


@dataclass
class Talk:
    """One request that has arrived, and the way to answer it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: bytes

    async def say(self, *pieces: bytes) -> None:
        """Write each piece apart, as fast as it is read."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def go_on(self, pieces: Iterable[bytes]) -> None:
        """Write until the other side has had enough, letting it work between two pieces."""
        for piece in pieces:
            await self.say(piece)
            await asyncio.sleep(0)

    async def until_left(self) -> None:
        """Wait until the other side closes the connection."""
        await self.reader.read()


@dataclass
class Hostile:
    """A server that does `act` with each request; afterwards it cuts the connection unless `again`."""

    act: Act
    again: bool = False
    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    left: int = 0
    """Connections that are over."""
    questions: list[bytes] = field(default_factory=list)
    """For counts; each has a connection of its own, which is not counted."""

    def answer(self, *pieces: bytes) -> None:
        """Answer every request with these bytes."""

        async def say(talk: Talk) -> None:
            await talk.say(*pieces)

        self.act = say

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                top = await reader.readuntil(b"\r\n\r\n")
                if top.startswith(QUESTION):
                    self.connections -= 1
                    self.left -= 1
                    self.questions.append(top)
                    writer.write(UNKNOWN)
                    await writer.drain()
                    return
                lines = top.lower().split(b"\r\n")
                length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
                self.requests.append(top + await reader.readexactly(length))
                await self.act(Talk(reader, writer, self.requests[-1]))
                if not self.again:
                    if writer.can_write_eof():
                        writer.write_eof()  # an orderly end, behind all that was said
                        await reader.read()
                    return
        finally:
            self.left += 1


@asynccontextmanager
async def hostile(*pieces: bytes, act: Act | None = None, again: bool = False) -> AsyncIterator[Hostile]:
    """Run one that answers with these bytes, or does `act`."""
    server = Hostile(act or (lambda talk: talk.say(*pieces)), again)
    async with _serving(server._connected) as server.url:
        yield server


def whole(content: bytes, *headers: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """Return an answer with its length."""
    return head(kind, *headers, status=status, length=len(content)) + content


def stream(*frames: bytes) -> bytes:
    """Return a chunked stream of events, with its end."""
    return head("text/event-stream") + b"".join(map(chunk, frames)) + b"0\r\n\r\n"


_HEADS = [
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"9\r\ndata: x\n\n\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nhello",
    b"HTTP/1.1 503 no\r\ncontent-type: application/json\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-vicuna-revision: r1\r\ncontent-length: 31\r\n\r\n"
    b'{"usage":{"prompt_tokens":12}} ',
]
_WORDS = [
    *[b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\xff", b"\x1b[31m", b"9" * 30, b"-1", b"0x", b"chunked", b"gzip"],
    *[b"transfer-encoding: chunked\r\n", b"content-length: 5\r\n", b"connection: upgrade\r\nupgrade: x\r\n", b"101"],
    *[b"x: " + b"y" * 9000 + b"\r\n", b"set-cookie: a=1\r\n", b"content-type: text/html\r\n", b"data: [DONE]\n\n"],
    *[b'{"usage":{"prompt_tokens":' + b"9" * 400 + b"}}", b"[" * 3000, b'"usage":{', b"data: ", b"event: x\n", b"304"],
    *[b"content-encoding: gzip\r\n", b"x-vicuna-revision: " + b"z" * 4000 + b"\r\n", b"ffffffff\r\n", b"0\r\n\r\n"],
    *[b"trailer: x\r\n", b"\n\n", b"retry: 1\n", b";x=" + b"y" * 5000, b"te: x\r\n"],
]


def broken_answers(seed: int, count: int) -> Iterable[tuple[bytes, ...]]:
    """Yield answers with something put in, taken out, turned or doubled, in pieces."""
    dice = random.Random(seed)
    for _ in range(count):
        data = dice.choice(_HEADS)
        for _ in range(dice.choice((1, 1, 1, 2, 4))):
            place, stop = sorted(dice.choices(range(len(data) + 1), k=2))
            data = dice.choice(
                [
                    data[:place] + dice.choice(_WORDS) + data[place:],
                    data[:place] + data[min(stop, place + 12) :],
                    data[:place] + bytes([dice.randrange(256)]) + data[place + 1 :],
                    data[:stop] + data[place:],
                ]
            )
        cuts = sorted(dice.choices(range(len(data) + 1), k=dice.randint(0, 3)))
        yield tuple(data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True))
