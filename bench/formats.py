#!/usr/bin/env python3
"""What a format costs: tokens per second of answers under a JSON schema or a pattern against free ones, alternating.

    python bench/formats.py --model FOLDER [--clients 8] [--tokens 64] [--rounds 5] [--dtype bfloat16]
        [--temperature 0] [--other CHECKOUT]

Each round asks all clients at once without a format, under each format, and with every second client under one. Every
request has a schema that no other had, so each is compiled. Every answer has the same number of tokens, so that the
batch is as full under a format as without: what is asked for cannot end earlier. Ratios are medians over rounds.
`--other` asks the server of another checkout too, in turns.
"""

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from asking import question
from contenders import VicunaServer
from processes import processor_seconds

NUMBERS = itertools.count()
LONG = 4000
"""Letters, more than an answer has: only then may it end."""
Maker = Callable[[], dict[str, Any]]
Figures = tuple[float, float]
"""Tokens per second, and seconds of processor time per token."""


def free() -> dict[str, Any]:
    return {"ignore_eos": True}


def story() -> dict[str, Any]:
    properties = {"story": {"type": "string", "minLength": LONG + next(NUMBERS)}, "scenes": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "story", "schema": schema}}}


def pattern() -> dict[str, Any]:
    return {"structured_outputs": {"regex": rf"[A-Za-z ,.'\n]{{{LONG + next(NUMBERS)},}}"}}


KINDS: Mapping[str, Sequence[Maker]] = {
    "free": [free],
    "JSON schema": [story],
    "pattern": [pattern],
    "every second: JSON schema": [free, story],
}


async def answered(http: httpx.AsyncClient, asked: Mapping[str, Any], args: argparse.Namespace) -> None:
    number = next(NUMBERS)
    sampling = {"max_tokens": args.tokens, "temperature": args.temperature, "seed": number}
    body = {"model": "m", "messages": question(number, number, 0), **sampling, **asked}
    response = await http.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    tokens = response.json()["usage"]["completion_tokens"]
    if tokens != args.tokens:
        raise SystemExit(f"an answer has {tokens} tokens instead of {args.tokens}: the batches are not the same")


async def measure(server: VicunaServer, makers: Sequence[Maker], args: argparse.Namespace) -> Figures:
    """Ask all clients at once."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=1800, trust_env=False) as http:
        used, started = processor_seconds(server.processes()), time.perf_counter()
        await asyncio.gather(*(answered(http, makers[index % len(makers)](), args) for index in range(args.clients)))
        seconds, tokens = time.perf_counter() - started, args.tokens * args.clients
        return tokens / seconds, (processor_seconds(server.processes()) - used) / tokens


async def compare(servers: Sequence[VicunaServer], args: argparse.Namespace) -> None:
    figures: dict[tuple[str, str], list[Figures]] = {(one.name, kind): [] for one in servers for kind in KINDS}
    for number in range(args.rounds + 1):
        for kind, makers in KINDS.items():
            for server in servers:
                measured = await measure(server, makers, args)
                if number:  # the first round does not count
                    figures[server.name, kind].append(measured)
    print("| server | answers | tok/s (lowest to highest) | against free | CPU ms/token | against free |")
    print("|---|---|---|---|---|---|")
    for (name, kind), measured_all in figures.items():
        print(row(name, kind, measured_all, figures[name, "free"]))


def row(name: str, kind: str, own: Sequence[Figures], base: Sequence[Figures]) -> str:
    """Return a line of the table; `base` are the figures of free answers in the same rounds."""
    speeds, costs = zip(*own, strict=True)
    fast = statistics.median(one / other for (one, _), (other, _) in zip(own, base, strict=True))
    dear = statistics.median(one / other for (_, one), (_, other) in zip(own, base, strict=True))
    speed = f"{statistics.median(speeds):.1f} ({min(speeds):.1f} to {max(speeds):.1f})"
    return f"| {name} | {kind} | {speed} | {fast:.2f} | {statistics.median(costs) * 1000:.2f} | {dear:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what formats of answers cost.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--other", type=Path, help="another checkout of this repository, to compare with")
    args = parser.parse_args()
    servers = [VicunaServer(args.model, args.dtype, "cpu", batch=args.clients)]
    if args.other:
        servers.append(VicunaServer(args.model, args.dtype, "cpu", "other", args.clients, checkout=args.other))
    try:
        for server in servers:
            server.start()
        asyncio.run(compare(servers, args))
    finally:
        for server in servers:
            server.stop()


if __name__ == "__main__":
    main()
