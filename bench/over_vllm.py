#!/usr/bin/env python3
"""What our server in front of vLLM costs where vLLM's CPUs are its own, as on a machine whose GPUs do its work.

    python bench/over_vllm.py --model FOLDER --vllm VENV/bin [--cpus 0] [--clients 1 8 32] [--rounds 12] [--tokens 32]

One vLLM is asked directly and through our server, in turn; who is first changes with each round. Our server and the
clients run on the other CPUs. Ratios are medians over the rounds, with their quartiles; the first text's times are
those of all clients. The processor time per token is vLLM's and our server's together.
"""

import argparse
import asyncio
import functools
import os
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from asking import Sample, load, p95, question
from chat import tokens_of
from engines import VicunaOverVllm, VllmServer

ROW = """
| clients | tok/s, through / direct (aim: 0.95) | tok/s | first text, median | p95 | CPU per token |
|---|---|---|---|---|---|"""


async def compare(vllm: VllmServer, front: VicunaOverVllm, args: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    count = functools.partial(tokens_of, AutoTokenizer.from_pretrained(args.model))
    limits = httpx.Limits(max_connections=None, keepalive_expiry=2)
    numbers = iter(range(10**6))
    async with httpx.AsyncClient(timeout=1800, limits=limits, trust_env=False) as http:
        print(ROW, flush=True)
        for clients in args.clients:
            direct, through = list[Sample](), list[Sample]()
            turns: list[tuple[Any, list[Sample]]] = [(vllm, direct), (front, through)]
            for _ in range(args.rounds + 1):
                for place, (one, samples) in enumerate(turns):
                    asked = [question(index, next(numbers), place) for index in range(clients)]
                    samples.append(await load(http, one, count, asked, args.tokens))
                turns.reverse()
            print(row(clients, direct[1:], through[1:]), flush=True)  # libraries choose their kernels in the first


def row(clients: int, direct: Sequence[Sample], through: Sequence[Sample]) -> str:
    ratios = [one.speed / other.speed for one, other in zip(through, direct, strict=True)]
    low, middle, high = statistics.quantiles(ratios)
    cells = [str(clients), f"{middle:.2f} ({low:.2f} to {high:.2f})"]
    for value, unit in ((_speed, ""), (_first, " ms"), (_late, " ms"), (_processor, " ms")):
        digits = 2 if value is _processor else 0
        cells.append(f"{value(through):.{digits}f}, {value(direct):.{digits}f}{unit}")
    return f"| {' | '.join(cells)} |"


def _speed(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.speed for sample in samples)


def _first(samples: Sequence[Sample]) -> float:
    return statistics.median(value for sample in samples for value in sample.first) * 1000


def _late(samples: Sequence[Sample]) -> float:
    return p95(samples) * 1000


def _processor(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.processor for sample in samples) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure our server in front of a vLLM that has CPUs of its own.")
    parser.add_argument("--model", type=Path, required=True, help="folder of a model")
    parser.add_argument("--vllm", type=Path, required=True, metavar="BIN", help="folder of the program vllm")
    parser.add_argument("--vllm-args", type=lambda text: tuple(shlex.split(text)), default=(), help="flags for it")
    parser.add_argument("--cpus", type=int, nargs="+", default=[0], help="those of vLLM")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=32)
    args = parser.parse_args()
    os.sched_setaffinity(0, os.sched_getaffinity(0) - set(args.cpus))
    where, batch = (args.model, "bfloat16", "cpu"), max(args.clients)
    vllm = VllmServer(*where, batch=batch, programs=args.vllm, flags=args.vllm_args, cpus=tuple(args.cpus))
    front = VicunaOverVllm(*where, batch=batch, engine=vllm)
    try:
        vllm.start()
        front.start()
        asyncio.run(compare(vllm, front, args))
    finally:
        front.stop()
        vllm.stop()


if __name__ == "__main__":
    main()
