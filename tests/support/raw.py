"""HTTP by hand: what well-behaved clients would not send."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

CHAT = "/v1/chat/completions"


@asynccontextmanager
async def connected(
    url: str, local: str | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection, from another loopback address if one is given; at the end it is cut."""
    address = urlsplit(url)
    source = (local, 0) if local else None
    reader, writer = await asyncio.open_connection(address.hostname, address.port, local_addr=source)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(url: str, *pieces: bytes, seconds: float = 30) -> bytes:
    """Send the pieces, each apart, and return all that comes until the other side closes."""
    async with connected(url) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            await asyncio.sleep(0)
        return await asyncio.wait_for(until_closed(reader), seconds)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """Return all that comes; a reset is an end too."""
    came = bytearray()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            came += data
    return bytes(came)


def request(
    body: bytes | None = None,
    *lines: str,
    method: str = "POST",
    path: str = CHAT,
    version: str = "1.1",
    length: int = -1,
) -> bytes:
    """Return a request; with `length` it announces a body of that size, whatever it has."""
    size = length if length >= 0 else len(body or b"")
    announced = [f"content-length: {size}"] if size or body is not None else []
    return "\r\n".join([f"{method} {path} HTTP/{version}", "host: x", *announced, *lines, "", ""]).encode() + (
        body or b""
    )


def status(answer: bytes) -> int:
    """Return an answer's status."""
    return int(answer.split(b" ", 2)[1])


def error(answer: bytes) -> dict[str, Any]:
    """Return the error object of an answer."""
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    return found
