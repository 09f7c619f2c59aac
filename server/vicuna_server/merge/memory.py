"""How much memory serving will take: weights and key/value cache, by element type and quantisation."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from vicuna_server.merge.kinds import VOCABULARY_SUFFIXES
from vicuna_server.merge.tensors import TensorSource

__all__ = ["MemoryRow", "memory_table"]

# dtype, quantisation, bytes per weight of a linear layer, bytes per other weight and per cached value.
# bitsandbytes leaves embedding, head and norms alone; int8 adds a float32 scale per row (little enough to leave
# out), nf4 a float32 scale per 64 weights.
_WAYS = (
    ("float32", "none", 4.0, 4),
    ("float16", "none", 2.0, 2),
    ("bfloat16", "none", 2.0, 2),
    ("float16", "int8", 1.0, 2),
    ("float16", "nf4", 0.5 + 4 / 64, 2),
)


class MemoryRow(BaseModel):
    """One way to serve a model; all numbers are bytes, None where the config does not tell."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    dtype: str
    quantization: str
    weights: int
    cache_per_token: int | None
    cache_per_context: int | None


def memory_table(config: Mapping[str, Any], tensors: Iterable[TensorSource]) -> list[MemoryRow]:
    """Return what each way of serving takes, without what the program itself and its activations need.

    Args:
        config: the model's config.json.
        tensors: its weights.
    """
    linear = others = 0
    for tensor in tensors:
        if len(tensor.shape) == 2 and not tensor.name.endswith(VOCABULARY_SUFFIXES):
            linear += tensor.elements
        else:
            others += tensor.elements
    values = _cached_values(config)
    context = _number(config, "max_position_embeddings")
    rows = []
    for dtype, quantization, linear_bytes, width in _WAYS:
        per_token = None if values is None else values * width
        per_context = None if per_token is None or context is None else per_token * context
        weights = int(linear * linear_bytes) + others * width
        rows.append(
            MemoryRow(
                dtype=dtype,
                quantization=quantization,
                weights=weights,
                cache_per_token=per_token,
                cache_per_context=per_context,
            )
        )
    return rows


def _cached_values(config: Mapping[str, Any]) -> int | None:
    """Return how many numbers a model keeps per token: keys and values of every layer."""
    layers, heads, width = (_number(config, key) for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    if layers is None or heads is None or width is None:
        return None
    groups = _number(config, "num_key_value_heads") or heads
    return 2 * layers * groups * (_number(config, "head_dim") or width // heads)


def _number(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9 else None
