#!/usr/bin/env python3
"""What the gateway adds to a request, and how many streams one core of it carries, against going direct.

    python bench/gateway.py [--streams 500] [--seconds 20] [--probes 400] [--other CHECKOUT [--no-keys]]

The server behind it is a bare loop that writes five events a second to every stream and answers a probe at once; it and
the clients share one core, the gateway has the other to itself. Probes go direct and through the gateway in turn, first
with nothing else under way, then beside the streams. The gateway asks for keys and writes its access log (to nowhere);
a request's body has 4 KiB.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import uvloop
from checkouts import packages_of, python_path

EVENT = b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
DONE = b"data: [DONE]\n\n"
COUNTS = b': vicuna {"usage":[1024,17],"final":%b}\n\n'
COUNTED_EVERY = 3  # events; servers write counts twice a second
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-vicuna-revision: r\r\ntransfer-encoding: chunked\r\n\r\n"
)
NOTHING = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n" + b'{"data":[]}'
EVERY = 0.2  # seconds
KEY = "vk-" + "k" * 43
BODY = 4096  # bytes


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Server(asyncio.Protocol):
    """Answers each request with `max_tokens` events, the first at once."""

    def connection_made(self, transport: Any) -> None:
        self._transport, self._data = transport, b""
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, mark, body = self._data.partition(b"\r\n\r\n")
        if not mark:
            return
        if head.startswith(b"GET"):  # the gateway asks what the server can do
            self._data = b""
            self._transport.write(NOTHING)
            return
        length = next(
            int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        )
        if len(body) < length:
            return
        self._data = b""
        self._counts = b"x-vicuna-counting" in head.lower()
        self._transport.write(HEAD)
        self._next(json.loads(body)["max_tokens"])

    def _next(self, left: int) -> None:
        self._transport.write(chunk((COUNTS % b"false" if self._counts and left % COUNTED_EVERY == 0 else b"") + EVENT))
        if left > 1:
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._next, left - 1)
        else:
            self._transport.write(chunk((COUNTS % b"true" if self._counts else b"") + DONE) + b"0\r\n\r\n")

    def connection_lost(self, _: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()


class Client(asyncio.Protocol):
    """One request; counts the events of its answer."""

    def __init__(self, tokens: int) -> None:
        messages = [{"role": "user", "content": "w" * (BODY // 4 - 60)} for _ in range(4)]
        body = json.dumps({"model": "m", "stream": True, "max_tokens": tokens, "messages": messages}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
        head += f"authorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        self.first = 0.0
        self.events = 0
        self.late = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport, self._sent = transport, time.perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        count = data.count(b'"content"')
        now = time.perf_counter() - self._sent
        if count and not self.first:
            self.first = now
        self.events += count
        if count:
            self.late = max(self.late, now - self.first - (self.events - 1) * EVERY)
        if b"[DONE]" in data:
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("cut"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def serve(port: int, core: int) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", port, backlog=4096)
        await server.serve_forever()

    os.sched_setaffinity(0, {core})
    uvloop.run(run())


async def ask(port: int, tokens: int) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(lambda: Client(tokens), "127.0.0.1", port)
    await client.done
    return client


async def probe(ports: dict[str, int], count: int) -> dict[str, list[float]]:
    seen: dict[str, list[float]] = {name: [] for name in ports}
    for _ in range(count):
        for name, port in ports.items():
            seen[name].append((await ask(port, 1)).first * 1e3)
    return seen


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def report(what: str, seen: dict[str, list[float]]) -> None:
    for name, share in (("median", 0.5), ("p99", 0.99)):
        took = ", ".join(f"{percentile(values, share):.2f} ms {way}" for way, values in seen.items())
        print(f"{what}: time to the first token, {name}: {took}")


def cpu(gateway: psutil.Process) -> float:
    return float(sum(gateway.cpu_times()[:2]))


async def measure(args: argparse.Namespace, direct: int, gateways: dict[str, tuple[int, psutil.Process]]) -> None:
    ports = {"direct": direct, **{name: port for name, (port, _) in gateways.items()}}
    for port in ports.values():
        await wait_for(port)
    await probe(ports, 100)
    report("alone", await probe(ports, args.probes))
    await cost(args.probes, gateways)
    for name, (port, process) in gateways.items():
        await beside_streams(args, name, {"direct": direct, name: port}, process)


async def cost(probes: int, gateways: dict[str, tuple[int, psutil.Process]]) -> None:
    """Compare the processor's time for a request, a fifth of them in each turn."""
    spent: dict[str, list[float]] = {name: [] for name in gateways}
    for _ in range(5):
        for name, (port, process) in gateways.items():
            before = cpu(process)
            await probe({name: port}, probes // 5)
            spent[name].append((cpu(process) - before) / (probes // 5) * 1e3)
    for name, each in spent.items():
        print(f"{name}: {statistics.median(each):.2f} ms of processor a request ({min(each):.2f} to {max(each):.2f})")


async def beside_streams(args: argparse.Namespace, name: str, ports: dict[str, int], gateway: psutil.Process) -> None:
    before, started = cpu(gateway), time.perf_counter()
    tokens = int(args.seconds / EVERY)
    streams = [asyncio.ensure_future(ask(ports[name], tokens)) for _ in range(args.streams)]
    await asyncio.sleep(3)
    report(f"beside {args.streams} streams", await probe(ports, args.probes))
    clients = await asyncio.gather(*streams, return_exceptions=True)
    good = [client for client in clients if isinstance(client, Client) and client.events == tokens]
    wall = time.perf_counter() - started
    print(f"streams whole: {len(good)} of {args.streams}, {sum(client.events for client in good) / wall:.0f} events/s")
    print(
        f"latest event of a stream, median and worst: {statistics.median(c.late for c in good) * 1e3:.0f} ms, "
        f"{max(c.late for c in good) * 1e3:.0f} ms after its turn"
    )
    share, resident = (cpu(gateway) - before) / wall, gateway.memory_info().rss / 2**20
    print(f"{name}: {share:.2f} of its core, {resident:.0f} MiB resident")


async def wait_for(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await ask(port, 1)
                return
            except OSError:
                await asyncio.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--probes", type=int, default=400)
    parser.add_argument("--no-keys", action="store_true", help="for gateways of before keys could be given in a file")
    parser.add_argument("--other", type=Path, help="another checkout, such as of an earlier commit, to run by turns")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    direct = free_port()
    os.sched_setaffinity(0, {cores[0]})
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(direct, cores[0]), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        keys = Path(folder, "keys.json")
        entry = {"sha256": hashlib.sha256(KEY.encode()).hexdigest(), "requestsPerMinute": 10**9}
        keys.write_text(json.dumps({"bench": entry}))
        access = ["--no-keys"] if args.no_keys else ["--keys-file", str(keys)]
        gateways = {
            name: start(running, direct, access, checkout, cores[-1])
            for name, checkout in {"through": None, **({"other": args.other} if args.other else {})}.items()
        }
        uvloop.run(measure(args, direct, gateways))
    server.kill()


def start(
    running: contextlib.ExitStack, direct: int, access: list[str], checkout: Path | None, core: int
) -> tuple[int, psutil.Process]:
    port = free_port()
    words = [
        sys.executable,
        "-m",
        "vicuna_server.cli",
        "gateway",
        "--host",
        "127.0.0.1",
        "--metrics-port",
        "0",
        *access,
    ]
    words += ["--upstream", f"m=http://127.0.0.1:{direct}", "--port", str(port)]
    environment = os.environ | python_path(packages_of(checkout))
    gateway = running.enter_context(subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment))
    running.callback(gateway.terminate)
    process = psutil.Process(gateway.pid)
    process.cpu_affinity([core])
    return port, process


if __name__ == "__main__":
    main()
