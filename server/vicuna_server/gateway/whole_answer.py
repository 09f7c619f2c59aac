"""An answer that is no stream: a small one is held back until it is complete, a large one flows through.

While nothing has gone to the client another server can still be asked. What is held for that is bounded, for each
answer and for all; beyond, an answer is read from its server as fast as its client reads.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp import StreamReader

from vicuna_server.gateway.answer_head import AnswerHead, BadAnswerError
from vicuna_server.gateway.client import Client
from vicuna_server.gateway.held import Held
from vicuna_server.gateway.upstream import LOST
from vicuna_server.gateway.usage import Counts, UsageEnds

__all__ = ["pass_whole", "read_small", "to_the_end"]

MOST_BYTES = 2**30
"""Only a server that writes for ever gets there: our own stay below 64 MiB, and an answer that flows holds nothing."""
REFUSAL_BYTES = 64 * 2**10
"""The longest body of a refusal that is passed on; servers' own have less than one."""


async def pass_whole(
    content: StreamReader, head: AnswerHead, client: Client, held: Held, counted: Callable[[Counts | None], None]
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
    if head.length is not None and head.length > MOST_BYTES:
        raise _too_large()
    ends, body = UsageEnds(), bytearray()
    with held.one() as holding:
        async for data in _bounded(content):
            ends.feed(data)
            if client.started:
                await client.write(data)
            elif (head.length or 0) <= held.each and holding.more(len(data)):
                body += data
            else:
                await client.start(head, head.length)
                await client.write(body)
                body.clear()
                holding.let_go()
                await client.write(data)
        counted(ends.usage() if head.media_type == "application/json" else None)
        if not client.started:
            await client.start(head, len(body) if head.media_type else None)
        await client.write(body, more=False)


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
        async with asyncio.timeout(1):
            while left > 0 and (data := await content.readany()):
                left -= len(data)
    except LOST:
        return


async def _bounded(content: StreamReader) -> AsyncIterator[bytes]:
    total = 0
    async for data in content.iter_any():
        total += len(data)
        if total > MOST_BYTES:
            raise _too_large()
        yield data


def _too_large() -> BadAnswerError:
    return BadAnswerError(
        f"the answer is larger than {MOST_BYTES >> 20} MiB, which is the most that is passed on; ask for less of "
        "it, or for a stream",
        code="answer_too_large",
    )
