#!/usr/bin/env python3
"""What one API key with many streams costs another key that asks a short question now and then.

    python bench/fairness.py --model FOLDER [--places 8 50] [--probes 100] [--tokens 64]

The server tells callers apart by the salt that the gateway sends for each key. One caller has four streams for each
place of the server, so that most of them wait, and asks again as soon as one ends; it is a process of its own. The
other asks one question after the other. Its time to the first text is measured with nobody else there, and beside the
streams. A step is the median time between two pieces of a stream: before a question is computed, the step under way
ends, and a stream gives its place to it.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import statistics
import time
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import httpx
from asking import question
from contenders import VicunaServer

from vicuna_contract.names import SALT_HEADER

SALTS = {"many": "a" * 43, "one": "b" * 43}
CLIENT: dict[str, Any] = {"timeout": 1800, "limits": httpx.Limits(max_connections=None), "trust_env": False}
STREAMS = 4
"""Of the one caller, for each place: one runs and three wait. The queue has room for four."""
LONE = 0.2
"""Seconds between two questions of the caller that asks one after the other."""


@dataclass
class Asking:
    """Asks one server."""

    http: httpx.AsyncClient
    url: str
    numbers: "itertools.count[int]"

    async def stream(self, caller: str, tokens: int) -> list[float]:
        """Return the seconds to each piece of one answer."""
        number = next(self.numbers)
        body: dict[str, Any] = {"model": "m", "messages": question(number, number, 0), "max_tokens": tokens}
        body |= {"stream": True, "temperature": 0, "ignore_eos": True}
        began, pieces = time.perf_counter(), list[float]()
        async with self.http.stream("POST", self.url, json=body, headers={SALT_HEADER: SALTS[caller]}) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line.removeprefix("data: "))
                    if any(choice["delta"].get("content") for choice in event["choices"]):
                        pieces.append(time.perf_counter() - began)
        return pieces

    async def probes(self, count: int) -> list[float]:
        """Return the seconds to the first text of questions one after the other."""
        seconds = []
        for _ in range(count):
            await asyncio.sleep(LONE)
            seconds.append((await self.stream("one", 4))[0])
        return seconds


def greedy(url: str, streams: int, tokens: int, gaps: "Queue[list[float]]") -> None:
    """Keep so many streams under way; send the times between their pieces as each ends."""

    async def run() -> None:
        async with httpx.AsyncClient(**CLIENT) as http:
            asking = Asking(http, url, itertools.count(10**6))

            async def again() -> None:
                while True:
                    pieces = await asking.stream("many", tokens)
                    gaps.put([later - sooner for sooner, later in itertools.pairwise(pieces)])

            await asyncio.gather(*(again() for _ in range(streams)))

    asyncio.run(run())


async def measure(server: VicunaServer, streams: int, probes: int, tokens: int) -> str:
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    async with httpx.AsyncClient(**CLIENT) as http:
        asking = Asking(http, url, itertools.count())
        await asking.probes(10)
        alone = await asking.probes(probes)
        told: Queue[list[float]] = multiprocessing.Queue()
        others = multiprocessing.Process(target=greedy, args=(url, streams, tokens, told), daemon=True)
        others.start()
        try:
            gaps = await asyncio.to_thread(told.get)
            beside = await asking.probes(probes)
            while not told.empty():
                gaps += told.get()
        finally:
            others.kill()
    return row(server.batch, alone, beside, statistics.median(gaps))


def row(places: int, alone: list[float], beside: list[float], step: float) -> str:
    lone, among = p95(alone), p95(beside)
    cells = [str(places), str(STREAMS * places), *(f"{value * 1000:.0f} ms" for value in (lone, among, step))]
    return f"| {' | '.join([*cells, f'{(among - step) / lone:.2f}'])} |"


def p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.95)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what one key's streams cost another key.")
    parser.add_argument("--model", type=Path, required=True, help="folder of a model")
    parser.add_argument("--probes", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=64, help="of each stream")
    parser.add_argument("--places", type=int, nargs="+", default=[8, 50], help="of the server (--max-concurrency)")
    args = parser.parse_args()
    print(f"{args.model.name}, {len(os.sched_getaffinity(0))} CPUs, streams of {args.tokens} tokens")
    print("\n| places | streams | first text p95, alone | beside | a step | (beside - a step) / alone (aim: 1.5) |")
    print("|---|---|---|---|---|---|")
    for places in args.places:
        server = VicunaServer(args.model, "bfloat16", "cpu", batch=places)
        server.start()
        try:
            print(asyncio.run(measure(server, STREAMS * places, args.probes, args.tokens)), flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
