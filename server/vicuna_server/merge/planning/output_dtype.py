"""The type of a result: which one is the base's own, and what another one cost."""

from collections import Counter

from vicuna_contract.templates import AUTO
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import FLOAT_DTYPES, OUTPUT_DTYPES

__all__ = ["conversion_loss", "own_dtype", "resolve_dtype"]

_WIDEST = "float32"
_DEFAULT = "float16"


def resolve_dtype(asked: str, base: Checkpoint) -> str:
    """Return float16, bfloat16 or float32: what was asked for, or the base's own.

    Args:
        asked: one of `recipe.MERGE_DTYPES`.
        base: the base.
    """
    return own_dtype(base) if asked == AUTO else asked


def own_dtype(base: Checkpoint) -> str:
    """Return float16, bfloat16 or float32: what most elements of the base's matrices are; of equals the widest.

    float64, which no model is served in, counts as float32; a base without floats as float16.
    """
    names = {stored: name for name, stored in OUTPUT_DTYPES.items()}
    elements: Counter[str] = Counter()
    for tensor in base.tensors.values():
        if tensor.dtype in FLOAT_DTYPES and len(tensor.shape) > 1:
            elements[names.get(tensor.dtype, _WIDEST)] += tensor.elements
    ranks = list(OUTPUT_DTYPES)
    return max(elements, key=lambda name: (elements[name], ranks.index(name)), default=_DEFAULT)


def conversion_loss(manifest: Manifest) -> tuple[str, str] | None:
    """Return reason and sentence where converting an artifact's weights to its type changed any; else None."""
    changed = sum(entry.changed for entry in manifest.files)
    if not changed:
        return None
    own, dtype = manifest.recipe.base_dtype, manifest.recipe.dtype
    advice = f"; --dtype {own} or auto (merge.dtype) keeps them" if own not in (None, dtype) else ""
    return (
        "ConversionLossy",
        f"{changed} values were changed by converting them to {dtype}, which is not the type they had{advice}",
    )
