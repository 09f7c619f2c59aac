#!/usr/bin/env python3
"""How fast a served model answers, side by side with others on the same weights, alternating in one run.

    python bench/chat.py --model FOLDER [--fastchat FOLDER] [--dtype bfloat16] [--tokens 64] [--clients 1 8 32]
    python bench/chat.py --random 1b --model F  # random weights of TinyLlama's shape, with the tokenizer of F
    python bench/chat.py --model FOLDER --vllm VENV/bin --llama-server PROGRAM --gguf FILE

Each contender is a process of its own, idle while another is measured; `generate` runs in this one, one request at
a time. Every round asks all of them in turn, after one round that does not count; their questions differ in one digit.
Ratios are medians over rounds. A row's processor time is that of all processes that worked for it. Its bandwidth is the
share of what this machine can read that reading the weights took.
FastChat: pip install --no-deps --target FOLDER fschat markdown2 nh3 shortuuid tiktoken peft
vLLM takes part alone and with our server in front of it, as one process that both use.
"""

import argparse
import asyncio
import functools
import os
import shlex
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from asking import TOPICS, ask, question
from bandwidth import read_bandwidth
from contenders import Contender, Generate, Message, TransformersServe, VicunaServer
from engines import LlamaServer, VicunaOverVllm, VllmServer
from fast_chat import FastChat
from processes import resident_bytes
from race import Race

# servers close connections that were idle for 5 s, and one may do so while it is taken anew
LIMITS = httpx.Limits(max_connections=None, keepalive_expiry=2)
MEBIBYTE = 2**20
GIGABYTE = 10**9


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


def contenders(model: Path, args: Any) -> list[Contender]:
    """Return who takes part, ours first, and vLLM before our server in front of it."""
    where, batch = (model, args.dtype, args.device), max(args.clients)
    vllm = [] if args.vllm is None else [VllmServer(*where, batch=batch, programs=args.vllm, flags=args.vllm_args)]
    wanted: list[tuple[bool, Callable[[], Contender]]] = [
        (args.other is not None, lambda: VicunaServer(*where, "ours, other", batch, checkout=args.other)),
        ("generate" in args.against, lambda: Generate(*where)),
        ("batching" in args.against, lambda: TransformersServe(*where, batch=batch)),
        ("serve" in args.against, lambda: TransformersServe(*where, "transformers serve", batch=1, batching=False)),
        (args.fastchat is not None, lambda: FastChat(*where, args.fastchat)),
        (
            args.llama_server is not None,
            lambda: LlamaServer(*where, batch=batch, program=args.llama_server, gguf=args.gguf, tokens=args.tokens),
        ),
    ]
    others = [make() for takes_part, make in wanted if takes_part]
    return [
        VicunaServer(*where, batch=batch),
        *others,
        *vllm,
        *(VicunaOverVllm(*where, batch=batch, engine=one) for one in vllm),
    ]


def start(one: Contender, device: str) -> str:
    """Start it; return how long that took and how much memory it has then."""
    before, started = gpu_bytes(device), time.perf_counter()
    one.start()
    seconds, resident = time.perf_counter() - started, resident_bytes(one.processes())
    on_gpu = f", {(gpu_bytes(device) - before) // MEBIBYTE} MiB on the GPU" if device == "cuda" else ""
    return f"{one.name}: ready after {seconds:.1f} s, {resident // MEBIBYTE} MiB resident{on_gpu}"


def gpu_bytes(device: str) -> int:
    """Return what all processes together have taken of the GPU."""
    if device != "cuda":
        return 0
    import torch

    free, total = torch.cuda.mem_get_info()
    return total - free


async def compare(model: Path, args: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    bandwidth = read_bandwidth(args.device)
    print(f"memory is read at {bandwidth / GIGABYTE:.1f} GB/s")
    takes_part = contenders(model, args)
    try:
        async with httpx.AsyncClient(timeout=1800, limits=LIMITS, trust_env=False) as http:
            for place, one in enumerate(takes_part):
                print(await asyncio.to_thread(start, one, args.device), flush=True)
                await ask(http, one, question(0, 0, place), 8)
            count = functools.partial(tokens_of, tokenizer)
            await Race(http, takes_part, count, args.tokens, args.rounds, bandwidth).throughput(args.clients)
            await second_turn(http, takes_part[0], args.rounds)
        if args.device == "cpu":
            memory(takes_part[0], model)
    finally:
        for one in reversed(takes_part):
            one.stop()
    if args.device == "cpu":
        loading(model, args.dtype, args.rounds)


def tokens_of(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


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
    parser.add_argument("--vllm", type=Path, metavar="BIN", help="folder of the program vllm, such as VENV/bin")
    help_text = "further flags for it, such as --vllm-args=--enforce-eager, which needs no compiler"
    parser.add_argument("--vllm-args", type=lambda text: tuple(shlex.split(text)), default=(), help=help_text)
    parser.add_argument("--llama-server", type=Path, metavar="PROGRAM", help="llama.cpp's server; with --gguf")
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="the same model for it")
    args = parser.parse_args()
    if (args.llama_server is None) != (args.gguf is None):
        parser.error("--llama-server and --gguf go together: the program, and the model in its format")
    with tempfile.TemporaryDirectory(prefix="bench-chat-") as scratch:
        model = random_model(Path(scratch) / "random-1b", args.model) if args.random else args.model
        cpus = len(os.sched_getaffinity(0))
        print(f"{model.name}, {args.dtype}, {cpus} CPUs, {args.device}, {args.tokens} new tokens, {args.rounds} rounds")
        asyncio.run(compare(model, args))


if __name__ == "__main__":
    main()
