#!/usr/bin/env python3
"""How fast a served model answers, side by side with others on the same weights, alternating in one run.

    python bench/chat.py --model FOLDER [--fastchat FOLDER] [--dtype bfloat16] [--tokens 64] [--clients 1 8 32]
    python bench/chat.py --random 1b            # no model needed: random weights of TinyLlama's shape

Each contender is a process of its own, idle while another is measured; `generate` runs in this one, one request at
a time. Every round asks all of them the same questions in turn, after one round that does not count; ratios are
medians over rounds. FastChat takes part where its folder is given:
pip install --no-deps --target FOLDER fschat markdown2 nh3 shortuuid tiktoken peft
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from contenders import Contender, FastChat, Generate, Message, TransformersServe, VicunaServer

TOPICS = ("a dragon", "the sea", "an old clock", "two friends", "a lost key", "the moon", "a river", "winter")
MEBIBYTE = 2**20
# servers close connections that were idle for 5 s, and one may do so while it is taken anew
LIMITS = httpx.Limits(max_connections=100, keepalive_expiry=2)


@dataclass(frozen=True)
class Sample:
    """Tokens per second over all clients, and each client's time to its first text in seconds."""

    speed: float
    first: list[float]


def question(index: int, number: int) -> list[Message]:
    """Return a question nobody was asked before, so that only what all have in common can be reused."""
    topic = TOPICS[index % len(TOPICS)]
    text = f"Write a long and detailed story about {topic} ({number}), with many scenes, and begin at once."
    return [{"role": "user", "content": text}]


async def ask(
    http: httpx.AsyncClient, one: Contender, messages: Sequence[Message], tokens: int
) -> tuple[str, float, float]:
    """Return the answer, the seconds to its first piece, and the seconds in all."""
    started, first, text = time.perf_counter(), 0.0, ""
    async for piece in one.stream(http, messages, tokens):
        first = first or time.perf_counter() - started
        text += piece
    return text, first, time.perf_counter() - started


async def load(http: httpx.AsyncClient, one: Contender, count: Any, clients: int, tokens: int, number: int) -> Sample:
    started = time.perf_counter()
    asked = [ask(http, one, question(index, number * 100 + index), tokens) for index in range(clients)]
    answers = await asyncio.gather(*asked)
    seconds = time.perf_counter() - started
    return Sample(sum(count(text) for text, _, _ in answers) / seconds, [first for _, first, _ in answers])


def p95(samples: Sequence[Sample]) -> float:
    values = sorted(value for sample in samples for value in sample.first)
    return values[min(len(values) - 1, int(len(values) * 0.95))]


async def throughput(http: httpx.AsyncClient, contenders: Sequence[Contender], count: Any, args: Any) -> None:
    print("| clients | server | tok/s | ours / it | first text p95 | ours / it |\n|---|---|---|---|---|---|")
    for number, clients in enumerate(args.clients):
        await warm_up(http, contenders, count, clients, number * 20 + 19)
        # Generate is a queue of one: its speed at 8 is its speed at 32.
        asked = [one for one in contenders if clients <= 8 or not isinstance(one, Generate)]
        samples: dict[str, list[Sample]] = {one.name: [] for one in asked}
        for index in range(args.rounds):
            for one in asked:
                samples[one.name].append(await load(http, one, count, clients, args.tokens, number * 20 + index))
        for name, theirs in samples.items():
            print_row(clients, name, samples[contenders[0].name], theirs)


async def warm_up(
    http: httpx.AsyncClient, contenders: Sequence[Contender], count: Any, clients: int, number: int
) -> None:
    """Let libraries choose their kernels, which they do when they first meet a batch of this size."""
    for one in contenders:
        if not isinstance(one, Generate):
            await load(http, one, count, clients, 4, number)


def print_row(clients: int, name: str, ours: Sequence[Sample], theirs: Sequence[Sample]) -> None:
    ratio = statistics.median(our.speed / their.speed for our, their in zip(ours, theirs, strict=True))
    speed, first = statistics.median(sample.speed for sample in theirs), p95(theirs)
    print(f"| {clients} | {name} | {speed:.1f} | {ratio:.2f} | {first:.2f} s | {p95(ours) / first:.2f} |", flush=True)


async def second_turn(http: httpx.AsyncClient, one: Contender, rounds: int) -> None:
    """Compare the first text of a 1000-token conversation's first and second turn."""
    ratios, pairs = [], []
    for index in range(rounds):
        words = " ".join(f"{TOPICS[number % 8]} {index * 1000 + number}," for number in range(150))
        history: list[Message] = [{"role": "user", "content": f"Remember this list: {words} and say yes."}]
        answer, first, _ = await ask(http, one, history, 16)
        history += [{"role": "assistant", "content": answer}, {"role": "user", "content": "What was the third item?"}]
        _, second, _ = await ask(http, one, history, 16)
        ratios.append(first / second)
        pairs.append((first, second))
    first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
    sooner = f"{statistics.median(ratios):.1f} x sooner"
    print(f"\nsecond turn of a long conversation: {first:.2f} s, then {second:.2f} s: {sooner}")


def loading(model: Path, dtype: str, rounds: int) -> None:
    """Compare loading the model with reading its files, both from disk."""
    from vicuna_server.engine.builtin.loading import LoadSettings, load_model
    from vicuna_server.engine.prefetch import prefetch

    files = sorted(model.glob("*.safetensors"))
    ratios, pairs = [], []
    for _ in range(rounds + 1):
        evict(files)
        started = time.perf_counter()
        for path in files:
            with path.open("rb", buffering=0) as file:
                while file.read(8 * MEBIBYTE):
                    pass
        read = time.perf_counter() - started
        evict(files)
        started = time.perf_counter()
        prefetch(model)  # as whoever starts a server does
        load_model(LoadSettings(model, dtype=dtype, kv_cache_memory=2**30))
        pairs.append((time.perf_counter() - started, read))
        ratios.append(pairs[-1][0] / read)
    # The first time imports half of transformers.
    loaded, read = (statistics.median(side) for side in zip(*pairs[1:], strict=True))
    print(f"loading: {loaded:.2f} s, reading the files: {read:.2f} s: {statistics.median(ratios[1:]):.2f} x")


def evict(files: Sequence[Path]) -> None:
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory(server: VicunaServer, model: Path) -> None:
    weights = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    peak, now = server.peak_bytes()
    beyond = peak - weights - 2**30
    print(
        f"memory of our server: peak {peak // MEBIBYTE} MiB, anonymous now {now // MEBIBYTE} MiB; weights "
        f"{weights // MEBIBYTE} MiB, cache 1024 MiB: peak is {beyond // MEBIBYTE} MiB beyond both (aim: at most 300)"
    )


def random_model(folder: Path, tokenizer_of: Path) -> Path:
    """Write random weights of TinyLlama-1.1B's shape, with another model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(config).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    return folder


async def compare(model: Path, args: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    ours = VicunaServer(model, args.dtype, args.device)
    contenders: list[Contender] = [ours]
    if args.other is not None:
        contenders.append(VicunaServer(model, args.dtype, args.device, "ours, other", checkout=args.other))
    if "generate" in args.against:
        contenders.append(Generate(model, args.dtype, args.device))
    if "batching" in args.against:
        contenders.append(TransformersServe(model, args.dtype, args.device))
    if "serve" in args.against:
        contenders.append(TransformersServe(model, args.dtype, args.device, "transformers serve", batching=False))
    if args.fastchat is not None:
        contenders.append(FastChat(model, args.dtype, args.device, args.fastchat))
    try:
        async with httpx.AsyncClient(timeout=1800, limits=LIMITS) as http:
            for one in contenders:
                await asyncio.to_thread(one.start)
                await ask(http, one, question(0, 0), 8)
            await throughput(http, contenders, lambda text: len(tokenizer(text)["input_ids"]), args)
            await second_turn(http, ours, args.rounds)
        if args.device == "cpu":
            memory(ours, model)
    finally:
        for one in contenders:
            one.stop()
    if args.device == "cpu":
        loading(model, args.dtype, args.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the server with others on the same weights.")
    parser.add_argument("--model", type=Path, required=True, help="folder of a model; with --random, of a tokenizer")
    parser.add_argument("--random", choices=("1b",), help="random weights of this size with the model's tokenizer")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--against", nargs="*", default=["generate", "batching"], choices=("generate", "batching", "serve")
    )
    parser.add_argument("--other", type=Path, help="another checkout, such as of an earlier commit, to run by turns")
    parser.add_argument("--fastchat", type=Path, help="folder with fastchat and what it needs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-chat-") as scratch:
        model = random_model(Path(scratch) / "random-1b", args.model) if args.random else args.model
        cpus = len(os.sched_getaffinity(0))
        print(f"{model.name}, {args.dtype}, {cpus} CPUs, {args.device}, {args.tokens} new tokens, {args.rounds} rounds")
        asyncio.run(compare(model, args))


if __name__ == "__main__":
    main()
