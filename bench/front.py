#!/usr/bin/env python3
"""What our server in front of vLLM adds to it, apart from the model's work.

    python bench/front.py --model FOLDER [--clients 1 8 32] [--tokens 64] [--rounds 5] [--other CHECKOUT]

A stand-in on another port writes the events of vLLM's `/v1/completions` at a fixed pace, so that all that differs is
the front: its processor time per request and per token, and how much later the first text comes than straight from
the stand-in. Straight and through each front alternate, and all clients of a round ask at once.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from checkouts import packages_of, python_path

EVERY = 0.05  # seconds between two tokens of a stream
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
ASKED: dict[str, Any] = {"model": "m", "stream": True, "temperature": 0}
CHAT = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "ignore_eos": True}


@dataclass(frozen=True)
class Front:
    """A server of ours that runs."""

    name: str
    http: httpx.AsyncClient
    process: psutil.Process


@dataclass
class Told:
    """What was measured of one: seconds to the first text, and of the processor per request, by tokens."""

    first: list[float] = field(default_factory=list)
    costs: dict[int, list[float]] = field(default_factory=dict)


def event(token: int, finish_reason: str | None) -> bytes:
    """Return one event as vLLM 0.32 writes it."""
    choice = {"index": 0, "text": " word", "logprobs": None, "finish_reason": finish_reason, "stop_reason": None}
    choice |= {"prompt_token_ids": None, "token_ids": [token]}
    said = {"id": "cmpl-0", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": None}
    return f"data: {json.dumps(said)}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request of one connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
    body = json.loads(await reader.readexactly(length)) if length else {}
    if not body.get("stream"):
        first = {"index": 0, "text": " word", "token_ids": [300], "finish_reason": "length", "logprobs": None}
        said = {"data": [{"id": "m", "max_model_len": 2048}], "choices": [first], "usage": {}}
        writer.write(HEAD % b"application/json" + chunk(json.dumps(said).encode()) + chunk(b""))
    else:
        writer.write(HEAD % b"text/event-stream")
        for index in range(count := body["max_tokens"]):
            writer.write(chunk(event(300 + index % 50, "length" if index == count - 1 else None)))
            if index < count - 1:
                await asyncio.sleep(EVERY)
        writer.write(chunk(b'data: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n') + chunk(b""))
    await writer.drain()
    writer.close()


def stand_in(port: int) -> None:
    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=512)
        await server.serve_forever()

    asyncio.run(serve())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def front(model: Path, checkout: Path, upstream: int) -> AsyncIterator[tuple[httpx.AsyncClient, psutil.Process]]:
    """Start our server of a checkout in front of the stand-in; give a client of it, and its process."""
    port = free_port()
    command = [sys.executable, "-m", "vicuna_server", "serve", "--model", str(model), "--served-name", "m"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-concurrency", "512"]
    command += ["--engine", "vllm", "--engine-url", f"http://127.0.0.1:{upstream}"]
    environment = {**os.environ, **python_path(packages_of(checkout)), "VICUNA_ACCESS_LOG": "off"}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with client(port) as http:
            while process.returncode is None and not await ready(http):  # noqa: ASYNC110  # it tells by HTTP alone
                await asyncio.sleep(0.1)
            yield http, psutil.Process(process.pid)
    finally:
        process.kill()
        await process.wait()


def client(port: int) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=300, trust_env=False)


async def ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def first_text(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> float:
    """Return the seconds until the first text; read the stream to its end."""
    started, first = time.perf_counter(), 0.0
    async with http.stream("POST", path, json=ASKED | body) as response:
        response.raise_for_status()
        async for piece in response.aiter_raw():
            if not first and (b"word" in piece or b'"content":"' in piece):
                first = time.perf_counter() - started
    return first


def used(process: psutil.Process) -> float:
    """Return the processor's seconds of it and of the process that renders templates for it.

    By the clocks that Linux has for each process (clock_getcpuclockid(3)): those in /proc count in ticks of 10 ms.
    """
    return sum(time.clock_gettime(~one.pid << 3 | 2) for one in [process, *process.children()])


async def measure(args: argparse.Namespace, checkouts: list[Path], upstream: int) -> None:
    async with AsyncExitStack() as stack:
        fronts = [
            Front(one.name, *await stack.enter_async_context(front(args.model, one, upstream))) for one in checkouts
        ]
        direct = await stack.enter_async_context(client(upstream))
        for clients in args.clients:
            straight, told = list[float](), [Told() for _ in fronts]
            for _ in range(args.rounds):
                for tokens in (1, args.tokens):
                    body = {"prompt": [1, 2, 3], "max_tokens": tokens}
                    straight += await gather(clients, direct, "/v1/completions", body)
                    for one, said in zip(fronts, told, strict=True):
                        before = used(one.process)
                        said.first += await gather(
                            clients, one.http, "/v1/chat/completions", CHAT | {"max_tokens": tokens}
                        )
                        said.costs.setdefault(tokens, []).append((used(one.process) - before) / clients)
            alone = statistics.median(straight) * 1000
            for one, said in zip(fronts, told, strict=True):
                request, many = (statistics.median(said.costs[tokens]) * 1000 for tokens in (1, args.tokens))
                token, first = (many - request) / (args.tokens - 1), statistics.median(said.first) * 1000
                row = f"{request:.2f} ms | {token:.3f} ms | {alone:.1f} ms | {first:.1f} ms"
                print(f"| {one.name} | {clients} | {row} |", flush=True)


async def gather(clients: int, http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> list[float]:
    return list(await asyncio.gather(*(first_text(http, path, body) for _ in range(clients))))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what our server in front of vLLM adds to it.")
    parser.add_argument("--model", type=Path, required=True, help="folder of a model, for its tokenizer and template")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--other", type=Path, help="another checkout, such as of an earlier commit")
    args = parser.parse_args()
    upstream = free_port()
    other = multiprocessing.Process(target=stand_in, args=(upstream,), daemon=True)
    other.start()
    print("| front | clients at once | CPU per request | CPU per token | first text alone | through the front |")
    print("|---|---|---|---|---|---|")
    checkouts = [Path(__file__).resolve().parents[1], *([args.other] if args.other else [])]
    asyncio.run(measure(args, checkouts, upstream))
    other.kill()


if __name__ == "__main__":
    main()
