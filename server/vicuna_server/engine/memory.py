"""How much memory a model of the LLaMA architecture needs, from its config.json alone. No torch.

Sources: parameter shapes as in transformers' LlamaForCausalLM; int8 as in bitsandbytes' Linear8bitLt (one byte per
weight and one float32 scale per output), nf4 as in its Linear4bit (half a byte per weight and one float32 scale per
block of 64), fp8 as in vLLM's model_executor/layers/quantization/online/fp8.py (one byte per weight and one float32
scale per matrix). Embedding, output head and norms keep their format.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vicuna_server.errors import InputError

__all__ = ["MemoryEstimate", "memory_estimate"]

DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
_NF4_BLOCK = 64
_LEFT_FREE = 0.1
"""Of each GPU, beside `_PASS_BYTES`: what the driver, its libraries and other processes hold."""
_PASS_BYTES = 2**30
"""Of each GPU: what one forward pass works with."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes.

    Attributes:
        weights: All weights.
        kv_per_token: Keys and values of one token.
    """

    weights: int
    kv_per_token: int

    def total(self, tokens: int) -> int:
        """Return weights and cache for so many tokens."""
        return self.weights + tokens * self.kv_per_token

    def tokens_on(self, gpus: int, gpu_bytes: int) -> int:
        """Return how many tokens have room beside the weights, which are split over GPUs of one size; 0: none."""
        usable = gpus * (int(gpu_bytes * (1 - _LEFT_FREE)) - _PASS_BYTES)
        return max(0, (usable - self.weights) // self.kv_per_token)


def memory_estimate(config: Mapping[str, Any], dtype: str, quantization: str = "none") -> MemoryEstimate:
    """Return what a model needs.

    Args:
        config: Content of its config.json.
        dtype: float16, bfloat16 or float32.
        quantization: none, int8, nf4 or fp8.

    Raises:
        InputError: `ConfigIncomplete`, naming the field.
    """
    size = DTYPE_BYTES[dtype]
    width, heads, layers = (
        _number(config, name) for name in ("hidden_size", "num_attention_heads", "num_hidden_layers")
    )
    inner, vocabulary = _number(config, "intermediate_size"), _number(config, "vocab_size")
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head = int(config.get("head_dim") or width // heads)
    # (outputs, inputs) of the matrices of one layer.
    attention = [(heads * head, width), (kv_heads * head, width), (kv_heads * head, width), (width, heads * head)]
    matrices = [*attention, (inner, width), (inner, width), (width, inner)]
    layer = sum(_matrix_bytes(rows, columns, size, quantization) for rows, columns in matrices) + 2 * width * size
    tables = 1 if config.get("tie_word_embeddings") else 2
    weights = layers * layer + (tables * vocabulary * width + width) * size
    return MemoryEstimate(weights, 2 * layers * kv_heads * head * size)


def _matrix_bytes(rows: int, columns: int, size: int, quantization: str) -> int:
    count = rows * columns
    if quantization == "int8":
        return count + 4 * rows
    if quantization == "fp8":
        return count + 4
    if quantization == "nf4":
        return count // 2 + 4 * -(-count // _NF4_BLOCK)
    return count * size


def _number(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or value <= 0:
        raise InputError(
            "ConfigIncomplete",
            f"config.json: {name} is {value!r}, where a positive number belongs; check the model's files",
        )
    return value
