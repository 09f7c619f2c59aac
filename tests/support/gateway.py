"""Running gateways, servers that misbehave, and an API server that lists and watches, all in this process."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
from aiohttp import web

from support.serving import NO_TLS
from vicuna_server.asgi.draining import Drain
from vicuna_server.asgi.listening import bind
from vicuna_server.gateway.ability_queries import AbilityQueries
from vicuna_server.gateway.affinity import choose, of_beginning
from vicuna_server.gateway.app import create_app
from vicuna_server.gateway.authentication import Authentication
from vicuna_server.gateway.catalogue import Catalogue, Endpoint, Model
from vicuna_server.gateway.connection_limits import ConnectionLimits
from vicuna_server.gateway.keys import KeyRing
from vicuna_server.gateway.metrics import Metrics
from vicuna_server.gateway.ports import ClientPort
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.server import EmbeddedServer
from vicuna_server.gateway.settings import GatewaySettings
from vicuna_server.gateway.upstream import Upstream

TINY = Model("team", "tiny", "tiny")
QUESTION = b"GET /internal/counts "
UNKNOWN = b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True)
class Gateway:
    """A gateway on a loopback port."""

    url: str
    catalogue: Catalogue
    upstream: Upstream
    authentication: Authentication
    limits: ConnectionLimits
    client: httpx.AsyncClient
    abilities: AbilityQueries

    def route(self, *urls: str, model: Model = TINY) -> None:
        """Set the servers of a model."""
        self.catalogue.put(model)
        self.catalogue.put_endpoints(model.key, "slice", [Endpoint(url) for url in urls])

    def metric(self, name: str) -> float:
        """Sum a metric over its labels."""
        lines = self.upstream.metrics.render().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + "{", name + " ")))


@asynccontextmanager
async def gateway(
    ring: KeyRing | None = None, *, several: bool = False, learns: bool = False, **settings: Any
) -> AsyncIterator[Gateway]:
    """Run a gateway; without a ring requests need no key.

    Args:
        ring: the keys.
        several: it may serve several namespaces.
        learns: it asks servers what their models can be asked for.
        settings: of the gateway.
    """
    catalogue = Catalogue(several=several)
    upstream = Upstream(GatewaySettings(**settings), Metrics(), catalogue)
    abilities = AbilityQueries(catalogue, upstream.list_models)
    if not learns:
        catalogue.listeners.remove(abilities.changed)
    authentication = create_app(catalogue, upstream, Rates(), lambda: True, abilities.of)
    authentication.ring = ring
    await upstream.open()
    port = ClientPort(authentication, upstream)
    state = Drain(loaded=True)
    server = EmbeddedServer(port.config(state), state, 0.0, port)
    with bind("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with httpx.AsyncClient(base_url=url, timeout=30, verify=NO_TLS) as client:
                yield Gateway(url, catalogue, upstream, authentication, port.limits, client, abilities)
        finally:
            server.should_exit = True
            await serving
            await abilities.close()
            await upstream.close()


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Faulty:
    """A server of raw bytes: what it does with each connection, and the requests it got."""

    url: str
    requests: list[bytes]
    gone: asyncio.Event
    questions: list[bytes]
    """Requests for counts; it responds 404, as another project's server."""


@asynccontextmanager
async def _serving(answer: Behaviour) -> AsyncIterator[str]:
    """Serve on a loopback port; at the end no connection is left."""
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def faulty(*pieces: bytes, hold: bool = False) -> AsyncIterator[Faulty]:
    """Answer every request with these bytes, each written apart; then cut the connection, or hold it until left."""
    state = Faulty("", [], asyncio.Event(), [])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(QUESTION):
            state.questions.append(head)
            writer.write(UNKNOWN)
            await writer.drain()
            return
        lines = head.lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
        state.requests.append(head + await reader.readexactly(length))
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if hold:
                await reader.read()
        finally:
            state.gone.set()

    async with _serving(answer) as state.url:
        yield state


async def until_one_ends(back: asyncio.StreamWriter, *ways: Coroutine[Any, Any, None]) -> None:
    """Carry bytes both ways until one way ends; then end the other, and the connection to the server (`back`)."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        back.transport.abort()  # before the wait, which may be cancelled
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def impatient(url: str, patience: float) -> AsyncIterator[str]:
    """A proxy of bytes that cuts a connection after so many seconds without one in either direction.

    It counts its own short turns: a pause of this whole process, servers and all, is one turn and not silence.
    """
    turn = 0.01

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: asyncio.Event) -> None:
        while data := await reader.read(65536):
            seen.set()
            writer.write(data)
            await writer.drain()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = httpx.URL(url)
        there, back = await asyncio.open_connection(address.host, address.port)
        seen = asyncio.Event()
        ways = [asyncio.ensure_future(carry(*way, seen)) for way in ((reader, back), (there, writer))]
        silent = 0
        try:
            while silent < patience / turn and not any(way.done() for way in ways):
                await asyncio.sleep(turn)
                silent = 0 if seen.is_set() else silent + 1
                seen.clear()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.transport.abort()

    async with _serving(connect) as proxy:
        yield proxy


def head(content_type: str, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """Return an answer's head; chunked where no length is given."""
    size = f"content-length: {length}" if length is not None else "transfer-encoding: chunked"
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-type: {content_type}", size, *headers, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """Return one chunk of an answer's body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class FakeApi:
    """The collections a gateway watches; `put` and `remove` are seen at once, `cut` ends all watches."""

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, dict[str, dict[str, Any]]] = {}
        self.queries: list[tuple[str, dict[str, str]]] = []
        self.versions = ["discovery.k8s.io/v1"]
        self.forget = False
        """Answer watches from older versions with 410, as a server does that has compacted its history."""
        self._version = 10
        self._watches: list[tuple[str, asyncio.Queue[dict[str, Any] | None]]] = []
        self._history: list[tuple[int, str, dict[str, Any]]] = []

    def put(self, path: str, item: dict[str, Any]) -> None:
        """Create or replace an object."""
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        known = self.objects.setdefault(path, {})
        kind = "MODIFIED" if item["metadata"]["name"] in known else "ADDED"
        known[item["metadata"]["name"]] = item
        self._tell(path, {"type": kind, "object": item})

    def remove(self, path: str, name: str) -> None:
        """Delete an object."""
        self._version += 1
        self._tell(path, {"type": "DELETED", "object": self.objects[path].pop(name)})

    def cut(self) -> None:
        """End every watch."""
        for _, queue in self._watches:
            queue.put_nowait(None)

    def _tell(self, path: str, event: dict[str, Any]) -> None:
        self._history.append((self._version, path, event))
        for watched, queue in self._watches:
            if watched == path:
                queue.put_nowait(event)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path.startswith("/apis/") and path.count("/") == 3:
            return web.json_response({}, status=200 if path.removeprefix("/apis/") in self.versions else 404)
        self.queries.append((path, dict(request.query)))
        if request.query.get("watch") != "true":
            items = list(self.objects.get(path, {}).values())
            return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})
        response = web.StreamResponse()
        await response.prepare(request)
        await self._watch(path, int(request.query["resourceVersion"]), response)
        return response

    async def _watch(self, path: str, since: int, response: web.StreamResponse) -> None:
        if self.forget and since < self._version:
            gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
            await response.write(json.dumps(gone).encode() + b"\n")
            return
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        for version, changed, event in self._history:
            if changed == path and version > since:
                queue.put_nowait(event)
        self._watches.append((path, queue))
        try:
            while (told := await queue.get()) is not None:
                await response.write(json.dumps(told).encode() + b"\n")
        finally:
            self._watches = [each for each in self._watches if each[1] is not queue]


@asynccontextmanager
async def fake_api() -> AsyncIterator[FakeApi]:
    """Run an API server on a loopback port."""
    api = FakeApi()
    async with answering(api._answer, "GET") as api.url:
        try:
            yield api
        finally:
            api.cut()


@asynccontextmanager
async def answering(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], method: str = "*"
) -> AsyncIterator[str]:
    """Answer requests of any path on a loopback port; yield its address."""
    app = web.Application()
    app.router.add_route(method, "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    with bind("127.0.0.1", 0) as listener:
        await web.SockSite(runner, listener).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await runner.cleanup()


def preferring(url: str, *others: str, **fields: Any) -> bytes:
    """Return a chat request that goes to this server first, without a key and without load."""
    endpoints = [Endpoint(each) for each in (url, *others)]
    for number in count():
        body = json.dumps(chat(words=f"question {number}", **fields)).encode()
        start = body.index(b"[")
        affinity = of_beginning("/v1/chat/completions", body, {"messages": (start, body.index(b"]") + 1)}, "")
        if choose(affinity, endpoints, lambda _: 0).url == url:
            return body
    raise AssertionError


def chat(model: str = "tiny", words: str = "one two three", **fields: Any) -> dict[str, Any]:
    """Return a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": words}], **fields}


def events(text: str) -> Sequence[str]:
    """Return the data of a stream's events."""
    return [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]


_IDS = re.compile(r"(?:resp|msg|fc|rs)_[0-9a-f]{44}|call_[A-Za-z0-9]{24}|(?<=_at\":)\d+")


def plain(data: Sequence[str]) -> list[Any]:
    """Return a stream's events without what is new in each answer; ids in Responses are numbered as they come."""
    numbers: dict[str, str] = {}

    def numbered(found: re.Match[str]) -> str:
        return "0" if found[0].isdigit() else numbers.setdefault(found[0], f"{len(numbers)}")

    found = [json.loads(_IDS.sub(numbered, one)) if one != "[DONE]" else one for one in data]
    for event in (one for one in found if isinstance(one, dict)):
        for name in ("id", "created"):
            event.pop(name, None)
        for choice in event.get("choices", ()):
            for call in choice.get("delta", {}).get("tool_calls", ()):
                call.pop("id", None)
    return found
