#!/usr/bin/env python3
"""Merge against the plain cost of moving the same bytes, side by side in one run.

    python bench/merge.py [--gigabytes 2] [--runs 3] [--work-dir DIR]

Makes a synthetic base and delta (float16, LLaMA shapes, random bytes), then alternates, each on a cold page
cache and on a warm one:

- merge: `vicuna-server merge` as a process, start-up included, output hashed, fsynced and published;
- floor: `cat` of both inputs to nowhere, then as many bytes as the artifact has written and fsynced;
- FastChat's `apply_delta`, only where fastchat is importable.

The cache is dropped by /proc/sys/vm/drop_caches where that is allowed, else by posix_fadvise per file.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vicuna_server.merge.safetensors_format import build_header

HIDDEN = 4096
INTERMEDIATE = 11008
VOCABULARY = 32000
FILES = 3


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure vicuna-server merge against moving the same bytes.")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the base, and of the delta")
    parser.add_argument("--runs", type=int, default=3, help="rounds; the medians are printed")
    parser.add_argument("--work-dir", type=Path, help="on the disk to measure; default: the temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-merge-", dir=args.work_dir) as place:
        measure(Path(place), args.gigabytes, args.runs)
    return 0


def measure(place: Path, gigabytes: float, runs: int) -> None:
    layers = max(1, round((gigabytes * 1e9 / 2 - 2 * VOCABULARY * HIDDEN) / layer_elements()))
    for seed, part in enumerate(("base", "delta")):
        make_checkpoint(place / part, layers, seed)
    inputs = sorted(place.glob("*/model-*"))
    size = sum(path.stat().st_size for path in inputs) // 2
    print(f"base and delta: {size / 1e9:.2f} GB each, {layers} layers, {len(inputs)} files, {os.cpu_count()} cores")
    for cache in ("cold", "warm"):
        times: dict[str, list[float]] = {"merge": [], "cat": [], "write": [], "fastchat": []}
        peaks: dict[str, list[int]] = {"merge": [], "fastchat": []}
        for _ in range(runs):
            prepare(cache, inputs)
            times["cat"].append(timed_cat(inputs))
            times["write"].append(timed_write(place / "written", size))
            prepare(cache, inputs)
            seconds, peak = timed_process(merge_command(place), place / "out")
            times["merge"].append(seconds)
            peaks["merge"].append(peak)
            if importlib.util.find_spec("fastchat"):
                prepare(cache, inputs)
                seconds, peak = timed_process(fastchat_command(place), place / "target")
                times["fastchat"].append(seconds)
                peaks["fastchat"].append(peak)
        report(cache, times, {name: max(values, default=0) // 2**20 for name, values in peaks.items()})


def report(cache: str, times: dict[str, list[float]], peaks: dict[str, int]) -> None:
    middle = {name: statistics.median(values) for name, values in times.items() if values}
    plain = middle["cat"] + middle["write"]
    print(
        f"{cache}: merge {middle['merge']:.2f} s; cat {middle['cat']:.2f} s + write {middle['write']:.2f} s"
        f" = {plain:.2f} s; ratio {middle['merge'] / plain:.2f} (aim <= 0.90), floor"
        f" {max(middle['cat'], middle['write']) / plain:.2f}; peak anonymous memory {peaks['merge']} MiB (aim <= 512)"
    )
    print(f"      merge runs: {' '.join(f'{value:.2f}' for value in times['merge'])}")
    if "fastchat" in middle:
        ratio = middle["fastchat"] / middle["merge"]
        print(f"      fastchat apply_delta {middle['fastchat']:.2f} s: {ratio:.1f} x ours; {peaks['fastchat']} MiB")


def layer_elements() -> int:
    return 4 * HIDDEN * HIDDEN + 3 * HIDDEN * INTERMEDIATE + 2 * HIDDEN


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for name in "qkvo":
            found[f"{prefix}self_attn.{name}_proj.weight"] = (HIDDEN, HIDDEN)
        for name in ("gate", "up"):
            found[f"{prefix}mlp.{name}_proj.weight"] = (INTERMEDIATE, HIDDEN)
        found[f"{prefix}mlp.down_proj.weight"] = (HIDDEN, INTERMEDIATE)
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{prefix}{name}.weight"] = (HIDDEN,)
    return found | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def make_checkpoint(folder: Path, layers: int, seed: int) -> None:
    folder.mkdir()
    everything = list(shapes(layers).items())
    block = random.Random(seed).randbytes(1 << 24)
    per_file = -(-len(everything) // FILES)
    places: dict[str, str] = {}
    for number in range(FILES):
        part = everything[number * per_file : (number + 1) * per_file]
        shard = f"model-{number + 1:05}-of-{FILES:05}.safetensors"
        places |= {name: shard for name, _ in part}
        with (folder / shard).open("wb") as file:
            file.write(build_header((name, "F16", shape) for name, shape in part))
            for name, shape in part:
                elements = shape[0] * (shape[1] if len(shape) > 1 else 1)
                if name == "model.norm.weight":  # ones in a model, zeros in a delta
                    file.write((b"\x00\x3c" if seed == 0 else b"\x00\x00") * elements)
                    continue
                left = 2 * elements
                while left:
                    left -= file.write(block[: min(left, len(block))])
            os.fsync(file.fileno())
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE, "num_attention_heads": 32, "num_hidden_layers": layers,
        "vocab_size": VOCABULARY, "torch_dtype": "float16", "tie_word_embeddings": False,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"})
    )


def prepare(cache: str, inputs: list[Path]) -> None:
    os.sync()
    if cache == "warm":
        timed_cat(inputs)
        return
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return
    for path in inputs:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed_cat(inputs: list[Path]) -> float:
    begin = time.perf_counter()
    with Path(os.devnull).open("wb") as nowhere:
        subprocess.run(["cat", *map(str, inputs)], stdout=nowhere, check=True)
    return time.perf_counter() - begin


def timed_write(path: Path, size: int) -> float:
    block = random.Random(2).randbytes(1 << 23)
    begin = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        left = size
        while left:
            left -= file.write(block[: min(left, len(block))])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - begin
    path.unlink()
    return seconds


def merge_command(place: Path) -> list[str]:
    words = ["--base", place / "base", "--delta", place / "delta", "--output", place / "out"]
    return [sys.executable, "-m", "vicuna_server", "merge", "--chat-template", "vicuna_v1.1", *map(str, words)]


def fastchat_command(place: Path) -> list[str]:
    words = ["--base-model-path", place / "base", "--delta-path", place / "delta"]
    words += ["--target-model-path", place / "target"]
    return [sys.executable, "-m", "fastchat.model.apply_delta", *map(str, words)]


def timed_process(command: list[str], output: Path) -> tuple[float, int]:
    """Run to the end; return seconds and the peak of RssAnon in bytes, then remove the output."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous_bytes(process.pid))
        time.sleep(0.02)
    seconds = time.perf_counter() - begin
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    shutil.rmtree(output)
    return seconds, peak


def anonymous_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    sys.exit(main())
