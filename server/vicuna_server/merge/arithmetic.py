"""Adding one piece of a delta to the same piece of a base.

Both are cast to the delta's stored type, added, and the sum is cast to the output's type: for float16 that is
FastChat's `base += delta`, bit for bit (FastChat, fastchat/model/apply_delta.py).
"""

from typing import Any

import torch

__all__ = ["combine", "set_up"]

_TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def set_up() -> None:
    """Keep torch to one thread: a second one for adding gains nothing while others read, hash and write."""
    torch.set_num_threads(1)


def combine(
    base: memoryview, base_dtype: str, delta: memoryview | None, delta_dtype: str, output_dtype: str
) -> memoryview:
    """Return the bytes of base + delta in the output type; the buffers given may be overwritten and returned.

    Args:
        base: elements of `base_dtype`; fewer of them than in `delta` count as zero beyond their end.
        base_dtype: safetensors' name of the type.
        delta: elements of `delta_dtype`, or None: the base is only cast.
        delta_dtype: safetensors' name of the type.
        output_dtype: safetensors' name of the type.
    """
    if base_dtype == output_dtype and delta is None:
        return base
    left = _tensor(base, base_dtype)
    if delta is None:
        return _bytes(left.to(_TORCH[output_dtype]))
    right = _tensor(delta, delta_dtype)
    if left.numel() < right.numel():
        right[: left.numel()].add_(left.to(right.dtype))
        total = right
    elif left.dtype == right.dtype:
        total = left.add_(right)
    else:
        total = left.to(right.dtype).add_(right)
    return _bytes(total.to(_TORCH[output_dtype]))


def _tensor(data: memoryview, dtype: str) -> torch.Tensor:
    if not data.nbytes:
        return torch.empty(0, dtype=_TORCH[dtype])
    return torch.frombuffer(data, dtype=_TORCH[dtype])


def _bytes(tensor: torch.Tensor) -> memoryview:
    array: Any = tensor.view(torch.uint8).numpy()
    return memoryview(array)
