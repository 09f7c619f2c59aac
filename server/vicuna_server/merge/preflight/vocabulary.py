"""The vocabulary's size as the tensors have it."""

from collections.abc import Mapping
from typing import Any

__all__ = ["INPUT_SUFFIXES", "VOCABULARY_SUFFIXES", "embedding_of", "with_vocabulary"]

INPUT_SUFFIXES = ("embed_tokens.weight", "embed_in.weight", "wte.weight")
VOCABULARY_SUFFIXES = (*INPUT_SUFFIXES, "lm_head.weight", "embed_out.weight")


def embedding_of(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return the name of the input embedding; None where there is none, or an empty one."""
    named = (name for name, shape in shapes.items() if name.endswith(INPUT_SUFFIXES) and len(shape) == 2 and shape[0])
    return min(named, key=len, default=None)


def with_vocabulary(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return a config that states the vocabulary's size as the embedding has it, if it states one at all."""
    embedding = embedding_of(shapes)
    if embedding is None or "vocab_size" not in config:
        return dict(config)
    return {**config, "vocab_size": shapes[embedding][0]}
