"""Whether the weights fit, and how many tokens' keys and values are held in what they leave."""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from vicuna_contract.quantity import in_words
from vicuna_server.engine.builtin.allocator import KVCacheAllocator
from vicuna_server.engine.builtin.kv import KeyValueShape
from vicuna_server.engine.builtin.placement import Placement
from vicuna_server.engine.memory import memory_estimate
from vicuna_server.errors import EngineError, InputError
from vicuna_server.machine import Memory, memory_left

__all__ = ["check_weights_fit", "kv_capacity"]

logger = logging.getLogger(__name__)

FLAG = "--kv-cache-memory"
RESERVE_SHARE = 0.1
RESERVE_BYTES = 512 * 2**20
"""What is left alone of the memory behind the weights: the larger of a share and a fixed size, for activations and a
chat template's process (`child_process.MOST_BYTES`)."""
KERNEL_BYTES = 144 * 2**20
"""What the CPU's kernels come to take while the server runs: 0.6 MiB for each shape that `padding` leaves, measured."""
UNLIMITED_SHARE = 0.5
"""The share taken of a machine's memory where no container limit says that it is ours."""


def check_weights_fit(config: Mapping[str, Any], placement: Placement, quantization: str) -> None:
    """Refuse a model that is larger than the memory it may use, before anything is loaded.

    Args:
        config: Content of config.json.
        placement: Device, format and caps.
        quantization: none, int8 or nf4.

    Raises:
        EngineError: `OutOfMemory`, with what is needed, what is there, and what would need less.
    """
    dtype = str(placement.dtype).removeprefix("torch.")
    try:
        needs = {kind: memory_estimate(config, dtype, kind).weights for kind in ("none", "int8", "nf4")}
    except InputError:
        return  # of another architecture: loading will show it
    if placement.max_memory is None:
        have, where = memory_left().left, "here"
    else:
        have, where = sum(placement.max_memory.values()), f"on {len(placement.max_memory)} GPU(s)"
    if needs[quantization] <= have:
        return
    smaller = [f"{kind} {in_words(size)}" for kind, size in needs.items() if size < needs[quantization]]
    advice = f"give more memory or GPUs{', or quantize: ' + ', '.join(smaller) if smaller else ''}"
    raise EngineError(
        "OutOfMemory",
        f"the weights need {in_words(needs[quantization])} in {dtype if quantization == 'none' else quantization}, "
        f"and {in_words(have)} may be used {where}; {advice}",
    )


def kv_capacity(asked: int | None, shape: KeyValueShape, context_length: int, max_running: int) -> int:
    """Return the tokens that the cache holds; to be called when the weights are loaded.

    Args:
        asked: Bytes for all devices together; None: what is left, at most `max_running` full contexts.
        shape: What the model keeps per token.
        context_length: One full context must fit.
        max_running: Sequences that run at once.

    Raises:
        EngineError: `KvCacheTooSmall`, with the numbers.
    """
    needed = KVCacheAllocator.padded(context_length)
    tokens = min(_tokens_left(shape), needed * max_running) if asked is None else asked // shape.token_bytes
    if tokens < needed:
        have = f"{tokens} tokens ({in_words(tokens * shape.token_bytes)})"
        raise EngineError(
            "KvCacheTooSmall",
            f"the key/value cache has room for {have}, and one full context of {context_length} tokens needs "
            f"{in_words(needed * shape.token_bytes)}: give more memory, set {FLAG} higher, or set a smaller "
            "--context-length",
        )
    logger.info(
        "key/value cache: %d tokens, %s at %d KiB per token",
        *(tokens, in_words(tokens * shape.token_bytes), shape.token_bytes // 1024),
    )
    return tokens


def _tokens_left(shape: KeyValueShape) -> int:
    """Return the tokens for which there is room on every device that has layers."""
    per_layer = shape.token_bytes // len(shape.layers)
    return min(_left(device) // (per_layer * layers) for device, layers in Counter(shape.layers).items())


def _left(device: torch.device) -> int:
    left = Memory(torch.cuda.mem_get_info(device)[0], limited=True) if device.type == "cuda" else memory_left()
    if not left.limited:
        return int(left.left * UNLIMITED_SHARE)
    kernels = 0 if device.type == "cuda" else KERNEL_BYTES
    return max(0, left.left - kernels - max(RESERVE_BYTES, int(left.left * RESERVE_SHARE)))
