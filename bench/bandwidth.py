"""How fast this machine reads memory, and how much of it a model's next token needs.

A decode step reads every weight once, whatever the number of sequences in it. So weights and bandwidth bound it.
"""

import functools
import os
import time
from pathlib import Path

__all__ = ["gguf_bytes_of_a_step", "read_bandwidth", "share_of_bandwidth", "weight_bytes_of_a_step"]

BUFFER_BYTES = 2**30  # more than the last cache holds
ROUNDS = 8
WIDTHS = {"bfloat16": 2, "float32": 4}


def read_bandwidth(device: str) -> float:
    """Return bytes per second of the fastest of several sums over one buffer, with all CPUs or on the GPU."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    buffer = torch.ones(BUFFER_BYTES // 4, dtype=torch.float32, device=device)
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        buffer.sum().item()  # the number is waited for
        seconds.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    return BUFFER_BYTES / min(seconds)


def share_of_bandwidth(tokens_per_second: float, batch: int, weight_bytes: int, bandwidth: float) -> float:
    """Return the share that reading weights takes.

    A lower bound: prompts, keys and values are not counted, and a batch is taken to be full.
    """
    return tokens_per_second / batch * weight_bytes / bandwidth


@functools.cache
def weight_bytes_of_a_step(model: Path, dtype: str) -> int:
    """Return the bytes of weights that a step of a dense model reads, as they are in memory.

    A step looks up a few rows of the embedding; its matrix is read whole where it is the output's too.
    """
    from safetensors import safe_open

    sizes: dict[str, int] = {}
    for path in model.glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118  # it is not a mapping
                sizes[name] = WIDTHS[dtype] * functools.reduce(int.__mul__, file.get_slice(name).get_shape(), 1)
    if not sizes:
        raise SystemExit(f"{model} has no *.safetensors; name an artifact, which `vicuna-server merge` makes")
    return _without_lookup(sizes, "model.embed_tokens.weight", "lm_head.weight")


@functools.cache
def gguf_bytes_of_a_step(path: Path) -> int:
    """Return the same for a GGUF file, whose weights stay as they are in the file."""
    from gguf import GGUFReader

    sizes = {tensor.name: int(tensor.n_bytes) for tensor in GGUFReader(path).tensors}
    return _without_lookup(sizes, "token_embd.weight", "output.weight")


def _without_lookup(sizes: dict[str, int], embedding: str, output: str) -> int:
    return sum(sizes.values()) - (sizes.get(embedding, 0) if output in sizes else 0)
