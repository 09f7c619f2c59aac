"""One stream of vLLM, by what comes over the connection."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from support.engines import free_port
from vicuna_server.engine.vllm.client import VllmClient
from vicuna_server.engine.vllm.events import Event
from vicuna_server.errors import EngineError, OverloadedError, RequestError

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def event(token: int) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"token_ids": [token]}]}).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def answering(*pieces: bytes | asyncio.Event) -> AsyncIterator[tuple[VllmClient, list[bytes], asyncio.Event]]:
    """Serve one response, in pieces with waits between, and close; give the requests, and whether a client has left."""
    asked: list[bytes] = []
    left = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        asked.extend((head, await reader.readexactly(length)))
        for piece in pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
            else:
                await piece.wait()
        if pieces and not isinstance(pieces[-1], bytes):
            with suppress(ConnectionError):  # an abort may reset the connection
                await reader.read()
            left.set()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield VllmClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), asked, left


async def taken(client: VllmClient, enough: int = 1000) -> tuple[list[int], list[str]]:
    """Return the tokens that came, and what was called before them."""
    tokens: list[int] = []
    begun: list[str] = []

    def take(one: Event) -> bool:
        tokens.extend(one.tokens)
        return len(tokens) >= enough

    await client.stream({"prompt": [1]}, lambda: begun.append("begun"), take)
    return tokens, begun


async def test_events_are_handed_on_whether_they_come_with_the_head_or_late() -> None:
    body = chunk(event(1)) + chunk(event(2)[:9]), chunk(event(2)[9:] + event(3)) + chunk(b"data: [DONE]\n\n")
    async with answering(HEAD + body[0], body[1] + chunk(b"")) as (client, asked, _):
        assert await taken(client) == ([1, 2, 3], ["begun"])
        assert asked[0].startswith(b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:")
        assert json.loads(asked[1]) == {"prompt": [1]}


async def test_the_connection_is_closed_once_there_is_enough_and_when_it_is_cancelled() -> None:
    go_on = asyncio.Event()
    go_on.set()
    async with answering(HEAD + chunk(event(1) + event(2)), go_on) as (client, _, left):
        assert (await taken(client, enough=1))[0] == [1]
        await asyncio.wait_for(left.wait(), 60)
    come = asyncio.Event()
    async with answering(HEAD + chunk(event(1)), go_on) as (client, _, left):
        asking = asyncio.create_task(client.stream({}, lambda: None, lambda _: bool(come.set())))  # type: ignore[func-returns-value]
        await asyncio.wait_for(come.wait(), 60)
        asking.cancel()
        await asyncio.wait_for(left.wait(), 60)
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize("body", [b"", chunk(event(1)), chunk(event(1))[:-4]])
async def test_a_connection_that_ends_behind_the_head_is_told_as_such(body: bytes) -> None:
    async with answering(HEAD + body) as (client, _, _):
        with pytest.raises(EngineError, match="lost in the middle of an answer: broke the connection"):
            await taken(client)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", b"SSH-2.0-OpenSSH_9.2\r\n"])
async def test_before_the_head_another_server_may_do_better(said: bytes) -> None:
    async with answering(said) as (client, _, _):
        with pytest.raises(OverloadedError, match="broke the connection"):
            await taken(client)


async def test_nobody_may_be_there() -> None:
    with pytest.raises(OverloadedError, match="refuses connections"):
        await taken(VllmClient(f"http://127.0.0.1:{free_port()}"))


async def test_a_refusal_is_read_whole() -> None:
    error = json.dumps({"error": {"message": "too long", "code": 400}}).encode()
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n" % len(error)
    async with answering(head + error[:5], error[5:]) as (client, _, _):
        with pytest.raises(RequestError, match="vllm: too long"):
            await taken(client)


async def test_what_the_taker_raises_ends_it() -> None:
    never = asyncio.Event()

    def take(_: Event) -> Any:
        raise RequestError("a mistake", code="mistake")

    for pieces in ((HEAD + chunk(event(1)),), (HEAD, chunk(event(1)))):
        async with answering(*pieces) as (client, _, _):
            with pytest.raises(RequestError, match="a mistake"):
                await client.stream({}, never.set, take)
