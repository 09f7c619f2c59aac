#!/usr/bin/env python3
"""What a format costs: tokens per second of answers under a JSON schema or a pattern against free ones, alternating.

    python bench/formats.py --model FOLDER [--clients 8] [--tokens 64] [--rounds 5] [--dtype bfloat16]

One server of ours; each round asks all clients at once without a format, under each format, and with every second
client under one. Every request has a schema that no other had, so each is compiled. Ratios are medians over rounds.
"""

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from asking import question
from contenders import VicunaServer
from processes import processor_seconds

NUMBERS = itertools.count()


def story() -> dict[str, Any]:
    """Return a schema whose only text is long, so that answers are as long as free ones."""
    properties = {"story": {"type": "string", "description": f"number {next(NUMBERS)}"}, "scenes": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "story", "schema": schema}}}


def pattern() -> dict[str, Any]:
    return {"structured_outputs": {"regex": rf"[A-Za-z ,.'\n]{{{2000 + next(NUMBERS)},}}"}}


async def answered(http: httpx.AsyncClient, number: int, asked: Mapping[str, Any], tokens: int) -> int:
    """Return the tokens of one answer."""
    body = {"model": "m", "messages": question(number, number, 0), "max_tokens": tokens, "temperature": 0}
    response = await http.post("/v1/chat/completions", json=body | dict(asked))
    response.raise_for_status()
    return int(response.json()["usage"]["completion_tokens"])


async def measure(server: VicunaServer, args: argparse.Namespace) -> None:
    kinds: dict[str, list[Callable[[], dict[str, Any]]]] = {
        "free": [dict],
        "JSON schema": [story],
        "pattern": [pattern],
        "every second: JSON schema": [dict, story],
    }
    speeds: dict[str, list[float]] = {name: [] for name in kinds}
    processor: dict[str, list[float]] = {name: [] for name in kinds}
    url = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=url, timeout=1800, trust_env=False) as http:
        for _ in range(args.rounds + 1):
            for name, makers in kinds.items():
                used, started = processor_seconds(server.processes()), time.perf_counter()
                fields = [makers[index % len(makers)]() for index in range(args.clients)]
                asked = [answered(http, next(NUMBERS), each, args.tokens) for each in fields]
                tokens = sum(await asyncio.gather(*asked))
                speeds[name].append(tokens / (time.perf_counter() - started))
                processor[name].append((processor_seconds(server.processes()) - used) / tokens)
    print("| answers | tok/s (lowest to highest) | against free | CPU ms/token |\n|---|---|---|---|")
    for name in kinds:  # the first round does not count
        own, base = speeds[name][1:], speeds["free"][1:]
        ratio = statistics.median(one / other for one, other in zip(own, base, strict=True))
        speed, cost = statistics.median(own), statistics.median(processor[name][1:]) * 1000
        print(f"| {name} | {speed:.1f} ({min(own):.1f} to {max(own):.1f}) | {ratio:.2f} | {cost:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what formats of answers cost.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    server = VicunaServer(args.model, args.dtype, "cpu", batch=args.clients)
    try:
        server.start()
        asyncio.run(measure(server, args))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
