"""Hostile requests and clients: each is refused or loses its connection, and other clients are not affected."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import psutil
import pytest

from support.raw import error, exchange, request, status
from support.serving import MODEL, Running, eventually, running
from vicuna_server.api import server as server_module
from vicuna_server.asgi.connections import ConnectionWatch
from vicuna_server.asgi.heads import HEAD_BYTES, MOST_HEADERS
from vicuna_server.engine import Embedding
from vicuna_server.engine.scope import EVERYBODY, CacheScope
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "red"}]}
LIMIT = 256 * 1024


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running(ScriptedEngine(ScriptedSettings(tokens=2)), max_body_bytes=LIMIT, body_seconds=0.3) as live:
        yield live


async def assert_unharmed(live: Running) -> None:
    answer = await live.http.post(CHAT, json=HELLO)
    assert (answer.status_code, live.engine.stats.running) == (200, 0)


def chat(text: str) -> bytes:
    return b'{"model": "tiny", "messages": [{"role": "user", "content": "%s"}]}' % text.encode()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (CHAT, b"[" * LIMIT, 400),
        (CHAT, json.dumps(HELLO).encode()[:-1] + b', "x": ' + b"[" * 9000 + b"]" * 9000 + b"}", 400),
        (CHAT, json.dumps(HELLO).encode()[:-1] + b', "x": ' + b"9" * 50_000 + b"}", 400),
        (CHAT, chat("x").replace(b"x", b"\xff\xfe"), 400),
        (CHAT, chat("\\ud83d"), 400),
        (CHAT, chat("\\ud83d\\ude00 \\u0000 \\u202e"), 200),
        (CHAT, b'{"model": NaN}', 400),
        (CHAT, json.dumps({**HELLO, "temperature": 0}).encode().replace(b"0}", b"NaN}"), 400),
        (CHAT, json.dumps({**HELLO, "stop": ["x"] * 10_000}).encode(), 400),
        (CHAT, json.dumps({**HELLO, "messages": HELLO["messages"] * 3000}).encode(), 400),
        (CHAT, json.dumps(HELLO).encode() + b" " * LIMIT, 413),
        (CHAT, json.dumps({**HELLO, "messages": [{"role": "user", "content": "x " * 30_000}]}).encode(), 400),
        (CHAT, json.dumps({**HELLO, "n": 10**9}).encode(), 400),
        (CHAT, b"null", 400),
        (CHAT, b'"text"', 400),
        ("/v1/completions", json.dumps({"model": MODEL, "prompt": ["x"] * 10_000}).encode(), 400),
        ("/v1/completions", json.dumps({"model": MODEL, "prompt": [[[[1]]]]}).encode(), 400),
        ("/v1/embeddings", json.dumps({"model": MODEL, "input": ["x"] * 3000}).encode(), 400),
        ("/v1/embeddings", json.dumps({"model": MODEL, "input": [2**40]}).encode(), 400),
        ("/tokenize", json.dumps({"prompt": "x" * 2 * LIMIT}).encode(), 413),
        ("/detokenize", json.dumps({"tokens": [-1]}).encode(), 400),
    ],
)
async def test_a_hostile_body_is_refused_in_openais_shape(path: str, body: bytes, status: int, server: Running) -> None:
    response = await server.http.post(path, content=body)
    assert response.status_code == status, response.text
    if status != 200:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        assert len(response.text) < 1000
    await assert_unharmed(server)


async def test_a_body_that_does_not_arrive_is_given_up(server: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{" % CHAT.encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()
    await assert_unharmed(server)


async def test_a_client_that_leaves_in_mid_body_is_forgotten(server: Running) -> None:
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{" % CHAT.encode())
        await writer.drain()
        writer.transport.abort()
    await assert_unharmed(server)


@pytest.mark.parametrize("head", [b"", b"POST /v1/chat/completions HT", b"GET /livez HTTP/1.1\r\nx: y\r\n"])
async def test_a_request_that_never_begins_loses_its_connection(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 1.0)
    async with running(ScriptedEngine(ScriptedSettings(tokens=2))) as live:
        fresh, other = await asyncio.open_connection("127.0.0.1", live.port)
        other.write(head)
        with suppress(ConnectionResetError):
            assert await fresh.read() == b""
        other.close()
        await assert_unharmed(live)


async def used_connection(live: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    await ask_again(reader, writer)
    return reader, writer


async def ask_again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")


async def test_a_connection_between_two_requests_outlives_the_limit_of_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients pool their connections for minutes: one that is cut takes the next request with it."""
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 0.5)
    async with running(ScriptedEngine(ScriptedSettings(tokens=2))) as live:
        reader, writer = await used_connection(live)
        # New ones, opened later, are closed meanwhile: the limit has passed for the used one as well.
        for _ in range(2):
            fresh, other = await asyncio.open_connection("127.0.0.1", live.port)
            assert await fresh.read() == b""
            other.close()
        await ask_again(reader, writer)
        # and what has begun on it has no more time than on a new one
        writer.write(b"GET /livez HTTP/1.1\r\nx: y\r\n")
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        await assert_unharmed(live)


async def test_an_idle_connection_is_closed_in_the_end() -> None:
    async with running(ScriptedEngine(ScriptedSettings(tokens=2)), keep_alive_seconds=1) as live:
        reader, writer = await used_connection(live)
        assert await reader.read() == b""
        writer.close()
        await assert_unharmed(live)


class Wide(ScriptedEngine):
    """Gives vectors that make a response of 20 MB from 1 000 texts: more than the sockets' buffers hold."""

    async def embed(self, prompts: Sequence[str | tuple[int, ...]], scope: CacheScope = EVERYBODY) -> list[Embedding]:
        del scope
        return [Embedding([1 / 3] * 1000, 1) for _ in prompts]


async def test_a_response_that_is_not_read_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    watches: list[ConnectionWatch] = []

    def watch(head_seconds: float, busy_seconds: float) -> ConnectionWatch:
        watches.append(ConnectionWatch(head_seconds, busy_seconds))
        return watches[0]

    monkeypatch.setattr(server_module, "ConnectionWatch", watch)
    async with running(Wide(ScriptedSettings())) as live:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port, limit=1024)
        body = json.dumps({"model": MODEL, "input": ["x"] * 1000}).encode()
        writer.write(b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")

        watches[0].busy_seconds = 0.2
        process = psutil.Process()

        def held() -> bool:
            return any(one.laddr.port == live.port and one.raddr for one in process.net_connections("tcp"))

        assert held()
        await eventually(lambda: not held())
        writer.transport.abort()
        await assert_unharmed(live)


async def test_many_idle_connections_take_nothing_from_others(server: Running) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(300)]
    await assert_unharmed(server)
    for _, writer in idle:
        writer.close()


LINE = b"a: " + b"b" * 996 + b"\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET /livez HTTP/1.1\r\nhost: x\r\na: " + b"b" * 70_000 + b"\r\n\r\n"],
        [b"GET /livez HTTP/1.1\r\nhost: x\r\na: ", *[b"b" * 10_000] * 7, b"\r\n\r\n"],
        [b"GET /livez HTTP/1.1\r\nhost: x\r\n" + LINE * 70 + b"\r\n"],
        [b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"],
        [b"GET /livez HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * MOST_HEADERS + b"\r\n"],
    ],
    ids=["one header", "in pieces", "many lines", "URL", "many headers"],
)
async def test_a_head_without_end_is_the_clients_431_however_it_arrives(pieces: list[bytes], server: Running) -> None:
    answer = await exchange(server.url, *pieces)
    assert (status(answer), error(answer)["code"]) == (431, "head_too_large")
    assert b"connection: close" in answer
    await assert_unharmed(server)


async def test_a_head_within_its_bounds_is_taken(server: Running) -> None:
    plain = len(request(None, "a: ", "connection: close", method="GET", path="/livez"))
    fits = request(None, f"a: {'b' * (HEAD_BYTES - plain)}", "connection: close", method="GET", path="/livez")
    assert status(await exchange(server.url, fits)) == 200
    body = json.dumps(HELLO).encode()
    large = request(body, f"a: {'b' * 60_000}", "connection: close")
    assert status(await exchange(server.url, large)) == 200


async def test_noise_is_a_400_in_openais_shape(server: Running) -> None:
    answer = await exchange(server.url, b"noise\r\n\r\n" * 1000)
    assert (status(answer), error(answer)["code"]) == (400, "invalid_http")
    await assert_unharmed(server)


async def test_a_slow_body_ends_its_connection(server: Running) -> None:
    answer = await exchange(server.url, request(b"{", length=500))
    assert (status(answer), error(answer)["code"]) == (408, "body_timeout")
    assert b"connection: close" in answer


@pytest.mark.parametrize("name", ["x" * 100_000, "\x1b[31m" * 1000], ids=["long", "colours"])
async def test_a_name_is_not_echoed_whole(name: str, server: Running) -> None:
    answers = [await server.http.post(CHAT, json={**HELLO, "model": name})]
    answers += [await server.http.get(f"{path}{'x' * 50_000}") for path in ("/v1/models/", "/")]
    for answer in answers:
        assert (answer.status_code in (400, 404), len(answer.content) < 600) == (True, True)
        assert answer.json()["error"]["message"].isprintable()
