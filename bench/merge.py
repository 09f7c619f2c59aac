#!/usr/bin/env python3
"""Merge against the plain cost of moving the same bytes, side by side in one run.

    python bench/merge.py [--shape 1.3b|7b | --gigabytes 2] [--layout safetensors|bin] [--runs 3] [--work-dir DIR]
                          [--other CHECKOUT]

Makes a synthetic base and delta (float16, LLaMA shapes), then alternates, each on a cold page cache and on a warm one:

- merge: `vicuna-server merge` as a process, start-up included, output hashed, fsynced and published;
- digests: the same with the digest of both inputs stated, so that every byte read is hashed too;
- floor: `cat` of both inputs to nowhere, then as many bytes as the artifact has written and fsynced;
- both of another checkout of this repository, if there is one to compare with;
- FastChat's `apply_delta`, only where fastchat is importable.

At the end one merge is killed (SIGKILL) when four fifths of its bytes are written, and what its successor reads is
compared with the whole. The cache is dropped by /proc/sys/vm/drop_caches where that is allowed, else by
posix_fadvise per file.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from checkouts import packages_of, python_path

from vicuna_server.weights.formats.safetensors_format import build_header

VOCABULARY = 32000
FILES = 3
MOST_RESUMED = 0.25


@dataclass(frozen=True)
class Shape:
    """LLaMA's sizes."""

    hidden: int
    intermediate: int
    layers: int

    @classmethod
    def of_size(cls, gigabytes: float) -> "Shape":
        """7B's widths with as many layers as make this size in float16."""
        hidden, intermediate = 4096, 11008
        layer = 4 * hidden * hidden + 3 * hidden * intermediate
        return cls(hidden, intermediate, max(1, round((gigabytes * 1e9 / 2 - 2 * VOCABULARY * hidden) / layer)))

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """All tensors and their shapes in the usual order."""
        found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, self.hidden)}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            for name in "qkvo":
                found[f"{prefix}self_attn.{name}_proj.weight"] = (self.hidden, self.hidden)
            for name in ("gate", "up"):
                found[f"{prefix}mlp.{name}_proj.weight"] = (self.intermediate, self.hidden)
            found[f"{prefix}mlp.down_proj.weight"] = (self.hidden, self.intermediate)
            for name in ("input_layernorm", "post_attention_layernorm"):
                found[f"{prefix}{name}.weight"] = (self.hidden,)
        return found | {"model.norm.weight": (self.hidden,), "lm_head.weight": (VOCABULARY, self.hidden)}


SHAPES = {"1.3b": Shape(2048, 5504, 24), "7b": Shape(4096, 11008, 32)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure vicuna-server merge against moving the same bytes.")
    parser.add_argument("--shape", choices=SHAPES, help="a whole model's shape, instead of --gigabytes")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the base, and of the delta")
    parser.add_argument("--layout", choices=("safetensors", "bin"), default="safetensors", help="of both inputs")
    parser.add_argument("--runs", type=int, default=3, help="rounds; the medians are printed")
    parser.add_argument("--work-dir", type=Path, help="on the disk to measure; default: the temporary folder")
    parser.add_argument("--other", type=Path, help="another checkout, such as of an earlier commit, to run by turns")
    args = parser.parse_args()
    shape = SHAPES[args.shape] if args.shape else Shape.of_size(args.gigabytes)
    with tempfile.TemporaryDirectory(prefix="bench-merge-", dir=args.work_dir) as place:
        measure(Path(place), shape, args.layout, args.runs, args.other)
    return 0


def measure(place: Path, shape: Shape, layout: str, runs: int, other: Path | None = None) -> None:
    for seed, part in enumerate(("base", "delta")):
        make_checkpoint(place / part, shape, layout, seed)
    inputs = sorted(path for path in place.glob("*/*") if path.suffix in (".bin", ".safetensors"))
    size = sum(path.stat().st_size for path in inputs) // 2
    print(f"base and delta: {size / 1e9:.2f} GB each, {shape}, {len(inputs)} {layout} files, {os.cpu_count()} cores")
    commands = {"merge": (merge_command(place), place / "out")}
    commands["digests"] = (merge_command(place, digests(place)), place / "out")
    if other:
        there = [f"{name}={value}" for name, value in python_path(packages_of(other)).items()]
        commands |= {
            f"{name}, other": (["env", *there, *command], out) for name, (command, out) in list(commands.items())
        }
    if importlib.util.find_spec("fastchat"):
        commands["fastchat"] = (fastchat_command(place), place / "target")
    for cache in ("cold", "warm"):
        rounds(cache, inputs, commands, place / "written", runs)
    resume(place, size)


def rounds(
    cache: str, inputs: list[Path], commands: dict[str, tuple[list[str], Path]], written_to: Path, runs: int
) -> None:
    """Run everything side by side, several times over, and print the medians."""
    size = sum(path.stat().st_size for path in inputs) // 2
    times: dict[str, list[float]] = {name: [] for name in ("cat", "write", *commands)}
    peaks: dict[str, Peak] = {name: Peak() for name in commands}
    for _ in range(runs):
        prepare(cache, inputs)
        times["cat"].append(timed_cat(inputs))
        times["write"].append(timed_write(written_to, size))
        for name, (command, output) in commands.items():
            prepare(cache, inputs)
            times[name].append(timed_process(command, peaks[name]))
            shutil.rmtree(output)
    report(cache, times, peaks)


@dataclass
class Peak:
    """The most memory seen, in bytes."""

    anonymous: int = 0
    resident: int = 0

    def __str__(self) -> str:
        return f"{self.anonymous // 2**20} MiB anonymous, {self.resident // 2**20} MiB resident"


def report(cache: str, times: dict[str, list[float]], peaks: dict[str, Peak]) -> None:
    middle = {name: statistics.median(values) for name, values in times.items()}
    plain = middle["cat"] + middle["write"]
    print(f"{cache}: cat {middle['cat']:.2f} s + write {middle['write']:.2f} s = {plain:.2f} s, the slower of the two")
    print(f"      is {max(middle['cat'], middle['write']) / plain:.2f} of that")
    for name, peak in peaks.items():
        each = " ".join(f"{value:.2f}" for value in times[name])
        ratio = middle[name] / plain
        ours = middle[name] / middle["merge"]
        print(f"      {name}: {middle[name]:.2f} s ({each}): {ratio:.2f} of it, {ours:.2f} x merge; {peak}")


def resume(place: Path, size: int) -> None:
    """Kill a merge when four fifths are written and see how much its successor reads again."""
    with subprocess.Popen(merge_command(place), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and written(place / "out") < 0.8 * size:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = written(place / "out")
    begin = time.perf_counter()
    done = subprocess.run(merge_command(place), capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - begin
    events = [json.loads(line) for line in done.stdout.splitlines()]
    adopted = next((event["bytes"] for event in events if event.get("event") == "resumed"), 0)
    share = 1 - adopted / size
    print(
        f"resume: killed at {before / size:.2f}; {share:.2f} of the bytes made again (aim <= {MOST_RESUMED}),"
        f" {seconds:.2f} s"
    )
    shutil.rmtree(place / "out")


def written(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.safetensors"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def digests(place: Path) -> list[str]:
    words = []
    for part in ("base", "delta"):
        command = [sys.executable, "-m", "vicuna_server", "inspect", "--digest", "--json", str(place / part)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        words += [f"--{part}-digest", found["sources"][0]["digest"]]
    return words


def make_checkpoint(folder: Path, shape: Shape, layout: str, seed: int) -> None:
    folder.mkdir()
    everything = list(shape.tensors().items())
    block = bytearray(random.Random(seed).randbytes(1 << 24))
    block[1::2] = block[1::2].translate(bytes(byte & 0xBF for byte in range(256)))  # halves below 2: no infinities
    per_file = -(-len(everything) // FILES)
    stem = "model" if layout == "safetensors" else "pytorch_model"
    places: dict[str, str] = {}
    for number in range(FILES):
        part = everything[number * per_file : (number + 1) * per_file]
        shard = f"{stem}-{number + 1:05}-of-{FILES:05}.{layout}"
        places |= {name: shard for name, _ in part}
        write = write_safetensors if layout == "safetensors" else write_pickle
        write(folder / shard, part, bytes(block), b"\x00\x3c" if seed == 0 else b"\x00\x00")
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / f"{stem}.{layout}.index.json").write_text(json.dumps(index))
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate, "num_attention_heads": shape.hidden // 128,
        "num_hidden_layers": shape.layers, "vocab_size": VOCABULARY, "torch_dtype": "float16",
        "tie_word_embeddings": False,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"})
    )


def contents(shape: tuple[int, ...], block: bytes, norm: bytes) -> list[bytes]:
    """Return a tensor's bytes in blocks: a norm is constant (ones in a model, zeros in a delta)."""
    if len(shape) == 1:
        return [norm * shape[0]]
    whole, rest = divmod(2 * shape[0] * shape[1], len(block))
    return [block] * whole + [block[:rest]]


def write_safetensors(path: Path, part: list[tuple[str, tuple[int, ...]]], block: bytes, norm: bytes) -> None:
    with path.open("wb") as file:
        file.write(build_header((name, "F16", shape) for name, shape in part))
        for _, shape in part:
            file.writelines(contents(shape, block, norm))
        os.fsync(file.fileno())


def write_pickle(path: Path, part: list[tuple[str, tuple[int, ...]]], block: bytes, norm: bytes) -> None:
    import torch

    state = {
        name: torch.frombuffer(bytearray(b"".join(contents(shape, block, norm))), dtype=torch.float16).view(shape)
        for name, shape in part
    }
    torch.save(state, path)


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


def merge_command(place: Path, more: list[str] | None = None) -> list[str]:
    words = ["--base", place / "base", "--delta", place / "delta", "--output", place / "out", *(more or [])]
    return [sys.executable, "-m", "vicuna_server", "merge", "--chat-template", "vicuna_v1.1", *map(str, words)]


def fastchat_command(place: Path) -> list[str]:
    words = ["--base-model-path", place / "base", "--delta-path", place / "delta"]
    words += ["--target-model-path", place / "target"]
    return [sys.executable, "-m", "fastchat.model.apply_delta", *map(str, words)]


def timed_process(command: list[str], peak: Peak) -> float:
    """Run to the end, note the peak of its memory, return seconds."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        note_memory(process.pid, peak)
        time.sleep(0.02)
    seconds = time.perf_counter() - begin
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return seconds


def note_memory(pid: int, peak: Peak) -> None:
    with contextlib.suppress(OSError):
        found = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        if "RssAnon" in found:
            peak.anonymous = max(peak.anonymous, int(found["RssAnon"].split()[0]) * 1024)
            peak.resident = max(peak.resident, int(found["VmHWM"].split()[0]) * 1024)


if __name__ == "__main__":
    sys.exit(main())
