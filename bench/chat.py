#!/usr/bin/env python3
"""How fast a served model answers, as ratios to transformers' own `generate`, alternating in one process.

    python bench/chat.py --model FOLDER [--dtype bfloat16] [--tokens 64] [--clients 8] [--rounds 3]

Both sides use the same loaded weights. The server's figures are taken by HTTP clients on loopback, which run in
the same process and take their share of the CPUs. `generate` is called as it is commonly served: one request at
a time, so eight clients wait for each other.
"""

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import torch

from vicuna_server.engine import ChatPrompt
from vicuna_server.engine.loading import LoadSettings
from vicuna_server.engine.transformers import TransformersEngine
from vicuna_server.http.app import create_app
from vicuna_server.http.lifecycle import Lifecycle
from vicuna_server.http.server import bind, serve
from vicuna_server.http.settings import ServiceSettings
from vicuna_server.prompts import Message

TOPICS = ("a dragon", "the sea", "an old clock", "two friends", "a lost key", "the moon", "a river", "winter")


@dataclass(frozen=True)
class Sample:
    """Tokens per second over all clients, and each client's time to its first text in seconds."""

    speed: float
    first: list[float]


def question(index: int) -> str:
    return f"Write a long and detailed story about {TOPICS[index % len(TOPICS)]}, with many scenes."


def generate(engine: TransformersEngine, clients: int, tokens: int) -> Sample:
    """Answer the clients one after the other; nothing is shown before an answer is complete."""
    loaded, made, ends = engine.loaded, 0, []
    started = time.perf_counter()
    for index in range(clients):
        ids = loaded.encoder.encode(ChatPrompt((Message("user", question(index)),))).ids
        with torch.inference_mode():
            out = loaded.model.generate(torch.tensor([ids]), max_new_tokens=tokens, do_sample=False)
        made += out.shape[1] - len(ids)
        ends.append(time.perf_counter() - started)
    return Sample(made / ends[-1], ends)


async def ask(http: httpx.AsyncClient, index: int, tokens: int) -> tuple[int, float]:
    body = {"model": "m", "messages": [{"role": "user", "content": question(index)}], "max_tokens": tokens}
    body |= {"temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    started, first, made = time.perf_counter(), 0.0, 0
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if not first and event["choices"] and event["choices"][0]["delta"].get("content"):
                first = time.perf_counter() - started
            if "usage" in event:
                made = event["usage"]["completion_tokens"]
    return made, first


async def served(http: httpx.AsyncClient, clients: int, tokens: int) -> Sample:
    started = time.perf_counter()
    answers = await asyncio.gather(*(ask(http, index, tokens) for index in range(clients)))
    return Sample(sum(made for made, _ in answers) / (time.perf_counter() - started), [at for _, at in answers])


def p95(samples: list[Sample]) -> float:
    values = sorted(value for sample in samples for value in sample.first)
    return values[min(len(values) - 1, int(len(values) * 0.95))]


def report(name: str, ours: list[Sample], theirs: list[Sample]) -> None:
    ratio = statistics.median(one.speed / other.speed for one, other in zip(ours, theirs, strict=True))
    speeds = [f"{statistics.median(sample.speed for sample in side):.1f}" for side in (ours, theirs)]
    print(
        f"| {name} | {speeds[0]} tok/s | {speeds[1]} tok/s | {ratio:.2f} x | {p95(ours):.2f} s | {p95(theirs):.2f} s |"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the server with transformers' generate.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dtype", default="auto", choices=("auto", "bfloat16", "float32", "float16"))
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    engine, lifecycle = TransformersEngine(LoadSettings(args.model, dtype=args.dtype)), Lifecycle()
    listener = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = create_app(engine, ServiceSettings("m", "bench", 0), lifecycle)
    serving = asyncio.create_task(serve(app, listener, engine, lifecycle, 600.0, drain_seconds=0.0))
    await lifecycle.settled.wait()
    if lifecycle.failure is not None:
        raise SystemExit(lifecycle.failure.message)
    print(
        f"{args.model.name}, {engine.loaded.placement.dtype}, {torch.get_num_threads()} threads, {args.tokens} tokens"
    )
    print("| clients | served | generate | ratio | served, first text p95 | generate, answer p95 |")
    print("|---|---|---|---|---|---|")
    async with httpx.AsyncClient(base_url=url, timeout=600) as http:
        await served(http, 1, 8)
        await asyncio.to_thread(generate, engine, 1, 8)
        for clients in (1, args.clients):
            ours, theirs = [], []
            for _ in range(args.rounds):
                ours.append(await served(http, clients, args.tokens))
                theirs.append(await asyncio.to_thread(generate, engine, clients, args.tokens))
            report(str(clients), ours, theirs)
    lifecycle.begin_drain()
    await serving


if __name__ == "__main__":
    asyncio.run(main())
