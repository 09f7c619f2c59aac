"""Passes on a response that is not a stream: a small one when it is complete, a large one as it arrives.

Until the client has received a part, another server can still take the request. The bytes buffered for that are
limited, for each response and for all. Beyond, a response is read from its server as fast as its client reads.
"""

import asyncio
from collections.abc import Callable

from aiohttp import ClientResponse, StreamReader
from starlette.responses import Response

from vicuna_server.connection_errors import CONNECTION_LOST
from vicuna_server.gateway.buffering import Buffer, BufferBudget
from vicuna_server.gateway.client import Client
from vicuna_server.gateway.model import Model
from vicuna_server.gateway.response_head import BadResponseError, ResponseHead, read_head
from vicuna_server.gateway.upstream_errors import refused
from vicuna_server.gateway.usage import UsageEnds
from vicuna_server.protocol.counts import Used

__all__ = ["pass_whole", "read_small", "refusal_of", "small_response", "to_the_end"]

MOST_BYTES = 2**30
"""The longest response. Our own servers stay below 64 MiB, so this ends only one that never ends by itself."""
END_SECONDS = 1.0
"""How long a server may take from the end of a stream to the end of its response."""
REFUSAL_BYTES = 64 * 2**10
"""The longest body of a refusal that is passed on; those of our own servers are below 1 KiB."""


async def refusal_of(response: ClientResponse, model: Model, revision: str) -> tuple[Response, str]:
    """Return what the client gets if no other server takes the request, and the server's revision if it stated that.

    Args:
        response: of a server that refuses the request.
        model: whose server it is.
        revision: that it should have.
    """
    try:
        head = read_head(response.status, response.headers, revision)
        refusal = await small_response(response.content, head)
    except BadResponseError:
        refusal = None
    return (refused(model, response.status), "") if refusal is None else (refusal, head.revision)


async def pass_whole(
    content: StreamReader,
    head: ResponseHead,
    client: Client,
    buffers: BufferBudget,
    on_usage: Callable[[Used | None], None],
) -> None:
    """Send a response to the client.

    Args:
        content: the body, as the server sends it.
        head: the head, as the client gets it.
        client: gets both.
        buffers: limits what is buffered.
        on_usage: called with the usage before the end of the response is sent.

    Raises:
        BadResponseError: `answer_too_large`; the client may have received a part of it.
        ClientNotReadingError: the client does not read.
    """
    body = _Body(content, head.length or 0)
    with buffers.buffer() as buffer:
        kept = await _buffered(body, head.length or 0, buffer)
        if not body.ended:
            await client.start(head, head.length)
            await client.write(kept)
            kept.clear()
            buffer.release()
            while data := await body.more():
                await client.write(data)
        on_usage(body.ends.usage() if head.media_type == "application/json" else None)
        if not client.started:
            await client.start(head, len(kept) if head.media_type else None)
        await client.write(kept, more=False)


class _Body:
    """Reads a body, and checks its size.

    Attributes:
        ends: has its usage.
        ended: whether all of it has been read.
    """

    def __init__(self, content: StreamReader, stated: int) -> None:
        self._content = content
        self._bytes = 0
        self._check(stated)
        self.ends = UsageEnds()
        self.ended = False

    async def more(self) -> bytes:
        """Return the bytes that have arrived; empty at the end."""
        data = await self._content.readany()
        self._bytes += len(data)
        self._check(self._bytes)
        self.ends.feed(data)
        self.ended = not data
        return data

    def _check(self, size: int) -> None:
        if size > MOST_BYTES:
            raise BadResponseError(
                f"the response is larger than {MOST_BYTES >> 20} MiB, the most that is passed on; ask for less, or for "
                "a stream",
                code="answer_too_large",
            )


async def _buffered(body: _Body, stated: int, buffer: Buffer) -> bytearray:
    """Return the whole body, or what arrived until the buffer was full."""
    kept, fits = bytearray(), stated <= buffer.budget.each
    while data := await body.more():
        kept += data
        if not (fits and buffer.grow(len(data))):
            break
    return kept


async def small_response(content: StreamReader, head: ResponseHead) -> Response | None:
    """Return a refusal as the client gets it; None where its body is longer than `REFUSAL_BYTES`."""
    body = await read_small(content)
    if body is None:
        return None
    response = Response(body, head.status)
    response.raw_headers = [*head.headers, (b"content-length", b"%d" % len(body))]
    return response


async def read_small(content: StreamReader) -> bytes | None:
    """Return the body of a refusal; None where it is longer than `REFUSAL_BYTES`."""
    body = bytearray()
    async for data in content.iter_any():
        body += data
        if len(body) > REFUSAL_BYTES:
            return None
    return bytes(body)


async def to_the_end(content: StreamReader) -> None:
    """Read the few bytes after a stream's end, so that the connection can be reused; if there are more, it closes."""
    left = REFUSAL_BYTES
    try:
        async with asyncio.timeout(END_SECONDS):
            while left > 0 and (data := await content.readany()):
                left -= len(data)
    except CONNECTION_LOST:
        return
