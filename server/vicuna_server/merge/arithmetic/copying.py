"""Chunks that are the base's own bytes: moved and judged without torch, whose import takes longer than many merges."""

import numpy as np

from vicuna_server.merge.arithmetic.layout import OutputTensor

__all__ = ["copy", "count_non_finite", "is_copy"]

_BITS = {"F16": 16, "BF16": 16, "F32": 32, "F64": 64}
_EXPONENT = {"F16": 0x7C00, "BF16": 0x7F80, "F32": 0x7F80_0000, "F64": 0x7FF << 52}


def is_copy(output: OutputTensor) -> bool:
    """Say whether the bytes of the base are the result's."""
    return output.base.dtype == output.dtype and output.delta is None and not output.patches and output.observer is None


def copy(output: OutputTensor, base: memoryview, delta: memoryview | None, start: int, into: memoryview) -> int:
    """Make one chunk of the output, as `arithmetic.combine` does; no value is changed."""
    del output, delta, start
    into[:] = base
    return 0


def count_non_finite(data: memoryview, dtype: str) -> int:
    """Return how many elements are infinite or not a number: those whose exponent has every bit set."""
    if dtype not in _BITS or not data.nbytes:
        return 0
    bits, exponent = _BITS[dtype], _EXPONENT[dtype]
    sizes = np.frombuffer(data, f"<u{bits // 8}") & (2 ** (bits - 1) - 1)  # without signs
    return int(np.count_nonzero(sizes >= exponent)) if sizes.max() >= exponent else 0
