"""An answer that is no stream: a small one is held back until it is complete, a large one flows through.

While nothing has gone to the client another server can still be asked. What is held for that is bounded, for each
answer and for all; beyond, an answer is read from its server as fast as its client reads.
"""

import asyncio
from collections.abc import Callable

from aiohttp import StreamReader

from vicuna_server.gateway.answer_head import AnswerHead, BadAnswerError
from vicuna_server.gateway.client import Client
from vicuna_server.gateway.held import Held, Holding
from vicuna_server.gateway.lost import LOST
from vicuna_server.gateway.usage import UsageEnds
from vicuna_server.protocol.counts import Used

__all__ = ["pass_whole", "read_small", "to_the_end"]

MOST_BYTES = 2**30
"""Only a server that writes for ever gets there: our own stay below 64 MiB, and an answer that flows holds nothing."""
END_SECONDS = 1.0
"""How long a server may take from the end of a stream to the end of its answer."""
REFUSAL_BYTES = 64 * 2**10
"""The longest body of a refusal that is passed on; servers' own have less than one."""


async def pass_whole(
    content: StreamReader, head: AnswerHead, client: Client, held: Held, counted: Callable[[Used | None], None]
) -> None:
    """Send an answer to the client.

    Args:
        content: the body.
        head: what goes before it.
        client: gets both.
        held: whose bounds hold.
        counted: told the usage before the answer's end goes out.

    Raises:
        BadAnswerError: `answer_too_large`; the client may have a part of it.
        ClientStuckError: the client does not read.
    """
    body = _Body(content, head.length or 0)
    with held.one() as holding:
        kept = await _held_back(body, head.length or 0, holding)
        if not body.ended:
            await client.start(head, head.length)
            await client.write(kept)
            kept.clear()
            holding.let_go()
            while data := await body.more():
                await client.write(data)
        counted(body.ends.usage() if head.media_type == "application/json" else None)
        if not client.started:
            await client.start(head, len(kept) if head.media_type else None)
        await client.write(kept, more=False)


class _Body:
    """Reads a body with an eye on its size and its usage.

    Attributes:
        ended: all of it has been read.
    """

    def __init__(self, content: StreamReader, stated: int) -> None:
        self._content = content
        self._bytes = 0
        self._check(stated)
        self.ends = UsageEnds()
        self.ended = False

    async def more(self) -> bytes:
        """Return what has come; nothing at the end."""
        data = await self._content.readany()
        self._bytes += len(data)
        self._check(self._bytes)
        self.ends.feed(data)
        self.ended = not data
        return data

    def _check(self, size: int) -> None:
        if size > MOST_BYTES:
            raise BadAnswerError(
                f"the answer is larger than {MOST_BYTES >> 20} MiB, which is the most that is passed on; ask for less "
                "of it, or for a stream",
                code="answer_too_large",
            )


async def _held_back(body: _Body, stated: int, holding: Holding) -> bytearray:
    """Return the whole body, or as much of it as came before there was no room."""
    kept, fits = bytearray(), stated <= holding.held.each
    while data := await body.more():
        kept += data
        if not (fits and holding.more(len(data))):
            break
    return kept


async def read_small(content: StreamReader) -> bytes | None:
    """Return the body of a refusal; None where it is larger than a refusal is."""
    body = bytearray()
    async for data in content.iter_any():
        body += data
        if len(body) > REFUSAL_BYTES:
            return None
    return bytes(body)


async def to_the_end(content: StreamReader) -> None:
    """Read what little there is behind a stream's end, so that its connection can be used again; else it closes."""
    left = REFUSAL_BYTES
    try:
        async with asyncio.timeout(END_SECONDS):
            while left > 0 and (data := await content.readany()):
                left -= len(data)
    except LOST:
        return
