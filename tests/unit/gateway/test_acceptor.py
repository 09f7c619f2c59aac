"""Pending connections: which are handed over, in what order, and how many in one iteration of the loop."""

import asyncio
import contextlib
import json
import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pytest

from support.raw import error, request, status
from vicuna_server.asgi.heads import HEAD_BYTES
from vicuna_server.asgi.lingering import LINGER_SECONDS
from vicuna_server.gateway import acceptor as module
from vicuna_server.gateway.acceptor import Acceptor
from vicuna_server.gateway.connection_limits import ConnectionLimits

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="there is no epoll")
KEY = "authorization: Bearer good"


@dataclass
class Port:
    """An acceptor, the heads that it handed over, and what it refused."""

    number: int
    acceptor: Acceptor
    limits: ConnectionLimits
    on_refused: list[int]
    entered: list[bytes] = field(default_factory=list)

    @contextmanager
    def client(self, *sent: bytes) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.number)) as one:
            for each in sent:
                one.sendall(each)
            one.setblocking(False)
            yield one


class _Taken(asyncio.Protocol):
    def __init__(self, port: Port, received: bytes) -> None:
        self._port, self._received = port, received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._port.entered.append(self._received)
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


@asynccontextmanager
async def port(most: int = 1000, head_seconds: float = 30) -> AsyncIterator[Port]:
    on_refused: list[int] = []
    limits = ConnectionLimits(lambda: most, head_seconds=head_seconds)
    entrance = Acceptor(
        limits, lambda head: b"Bearer good" in head, on_refused.append, lambda received: _Taken(made, received)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Port(listener.getsockname()[1], entrance, limits, on_refused)
        entrance.listen(listener, 1000)
        yield made
        entrance.close()


async def turns(count: int = 200) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def answer(one: socket.socket) -> bytes:
    came = b""
    with contextlib.suppress(ConnectionError):
        while data := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(one, 65536), 10):
            came += data
    return came


async def test_who_brings_a_key_goes_in_before_all_who_bring_none() -> None:
    get = request(None, method="GET", path="/livez")
    async with port() as here:
        with ExitStack() as held:
            for _ in range(100):
                held.enter_context(here.client(get))
            held.enter_context(here.client(request(b"{}", KEY)))
            await turns(400)
        assert len(here.entered) == 101
        place = next(place for place, came in enumerate(here.entered) if b"good" in came)
        assert place <= 50, "the crowd's two in a turn, and no more, went in while its connection was taken in"
        assert sum(came == get for came in here.entered) == 100


async def test_a_turn_has_its_share_of_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCEPTED", "READ", "WITH_KEY", "WITHOUT_KEY"):
        monkeypatch.setattr(module, name, 1)
    get = request(None, method="GET", path="/livez")
    async with port() as here:
        with ExitStack() as held:
            for _ in range(30):
                held.enter_context(here.client(get))
            before = -1
            for turn in range(1, 400):
                await asyncio.sleep(0)
                there = len(here.limits)
                assert there <= turn
                assert len(here.entered) - max(before, 0) <= 1
                before = len(here.entered)
        assert before == 30


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([b"a" * (HEAD_BYTES + 1)], 431),
        ([b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 11_000], 431),
        ([b"GET / HTT"], 408),
        ([b"GET / HTTP/1.1\r\nhost: x\r\n"], 408),
    ],
)
async def test_what_is_no_request_is_answered_without_one(pieces: list[bytes], code: int) -> None:
    async with port(head_seconds=5) as here:
        with here.client(*pieces) as one:
            reading = asyncio.create_task(answer(one))
            await turns()
            now = asyncio.get_running_loop().time()
            here.limits.look((), now + 6)
            said = await reading
            assert (status(said), here.on_refused) == (code, [code])
            assert error(said)["code"]
            assert json.dumps(here.entered) == "[]"
            assert len(here.limits) == 1, "until its client has read that"
            here.acceptor.look(now + LINGER_SECONDS + 1)
            assert len(here.limits) == 0


@pytest.mark.parametrize("noise", [b"\x16\x03\x01", b"hello\r\n", b"GET /\r\n", b"\r\n\r\n\x00"])
async def test_what_cannot_become_a_request_is_left_to_the_protocol_at_once(noise: bytes) -> None:
    async with port() as here:
        with here.client(noise):
            await turns()
            assert here.entered == [noise]


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\n\r\n"])
async def test_a_head_that_comes_byte_by_byte_goes_in_whole(end: bytes) -> None:
    head = b"\r\nGET /livez HTTP/1.1\r\nhost: x" + end
    async with port() as here:
        with here.client() as one:
            for place in range(len(head)):
                assert here.entered == []
                one.send(head[place : place + 1])
                await turns(5)
            await turns()
            assert here.entered == [head]


async def test_who_leaves_or_says_nothing_is_forgotten() -> None:
    async with port(head_seconds=5) as here:
        with here.client(b"GET / "), here.client():
            await turns()
            assert len(here.limits) == 2
            here.limits.look((), asyncio.get_running_loop().time() + 6)
            assert (len(here.limits), here.on_refused) == (1, [408])
        await turns()
        assert len(here.limits) == 0
        with here.client(b"GET / HTTP/1.1\r\n"):
            await turns()
            assert len(here.limits) == 1
        await turns()
        assert (len(here.limits), here.entered) == (0, [])


async def test_heads_that_wait_for_their_turn_count_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WITHOUT_KEY", 0)
    large = request(None, "a: " + "b" * 60_000, method="GET")
    async with port(most=3) as here:
        with ExitStack() as held:
            for _ in range(5):
                held.enter_context(here.client(large))
                await turns()
            assert len(here.limits) == 3
            assert here.limits._heads == 3 * len(large)


async def test_where_nobody_can_make_room_the_next_is_told_so() -> None:
    async with port(most=0) as here:
        with here.client() as one:
            said = await answer(one)
            assert (status(said), error(said)["code"], here.on_refused) == (503, "overloaded", [503])


async def test_who_goes_on_talking_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ", 0)
    async with port() as here:
        with here.client(b"GET / HTTP/1.1\r\n") as one:
            for _ in range(5):
                await turns(10)
                one.sendall(b"a: b\r\n")
            await turns(10)
            assert len(here.acceptor._ready) == 1
            monkeypatch.undo()
            one.sendall(b"\r\n")
            await turns()
            assert here.entered == [b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5 + b"\r\n"]
