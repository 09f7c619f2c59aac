"""How much memory serving a checkpoint will take, by element type and quantisation."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from vicuna_server.engine.memory import memory_estimate
from vicuna_server.inspect.gpus import Gpus

__all__ = ["MemoryRow", "memory_table"]

_WAYS = (
    *(("float32", "none"), ("float16", "none"), ("bfloat16", "none")),
    *(("float16", "int8"), ("float16", "nf4"), ("float16", "fp8")),
)
_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "vocab_size", "max_position_embeddings"),
)
_MOST = 10**9


class MemoryRow(BaseModel):
    """One way to serve a model.

    Attributes:
        dtype: of weights and cache.
        quantization: of the weights: none; int8 and nf4, which the builtin engine does; fp8, which vllm does.
        weights: their bytes.
        cache_per_token: bytes of one token's keys and values.
        cache_per_context: the same of a full context; None where the config states no context length.
        tokens: how many have room beside the weights; None where no GPUs are given.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    dtype: str
    quantization: str
    weights: int
    cache_per_token: int
    cache_per_context: int | None
    tokens: int | None


def memory_table(config: Mapping[str, Any], vocabulary: int | None, gpus: Gpus | None) -> list[MemoryRow]:
    """Return what each way of serving takes, without what the program itself and its activations need.

    Args:
        config: the model's config.json, whatever it holds.
        vocabulary: rows of the embedding, which the config may state wrongly.
        gpus: what the model should run on; None: that is not asked.

    Raises:
        InputError: `ConfigIncomplete`, naming the field.
    """
    sizes: dict[str, Any] = {key: config[key] for key in _SIZES if _is_size(config.get(key))}
    sizes["tie_word_embeddings"] = config.get("tie_word_embeddings") is True
    if vocabulary:
        sizes["vocab_size"] = vocabulary
    context = sizes.get("max_position_embeddings")
    rows = []
    for dtype, quantization in _WAYS:
        estimate = memory_estimate(sizes, dtype, quantization)
        rows.append(
            MemoryRow(
                dtype=dtype,
                quantization=quantization,
                weights=estimate.weights,
                cache_per_token=estimate.kv_per_token,
                cache_per_context=context * estimate.kv_per_token if context else None,
                tokens=estimate.tokens_on(gpus.count, gpus.size) if gpus is not None else None,
            )
        )
    return rows


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST
