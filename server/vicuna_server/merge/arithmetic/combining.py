"""Turning a chunk of base and delta into the same chunk of the result.

Both are cast to one type (the delta's stored one, unless `sum_dtype` names another), added, and the sum is cast to the
output's type: for float16 that is FastChat's `base += delta`, bit for bit (FastChat, fastchat/model/apply_delta.py).
Which type holds both is `pairing.sum_dtype`'s to say.
"""

from collections.abc import Iterator
from math import prod

import torch

from vicuna_server.merge.arithmetic.copying import copy, is_copy
from vicuna_server.merge.arithmetic.layout import OutputTensor, Padding
from vicuna_server.weights.tensors import FLOAT_DTYPES
from vicuna_server.weights.torch_tensors import TORCH, view_as

__all__ = ["combine", "count_non_finite", "set_up"]

_BLOCK = 2**17  # elements


def set_up() -> None:
    """Keep torch to one thread: a second one for adding gains nothing while others read, hash and write."""
    torch.set_num_threads(1)


def combine(output: OutputTensor, base: memoryview, delta: memoryview | None, start: int, into: memoryview) -> int:
    """Make one chunk of the output; the buffers given may be overwritten.

    Args:
        output: how the tensor comes about.
        base: elements of the base; fewer of them than in `delta` are padded as `padding` says.
        delta: elements of the delta, None without one.
        start: first element of the chunk.
        into: gets the chunk, of the output's type.

    Returns:
        How many values the conversion to the output's type changed, where `counted` asks for it; else 0.
    """
    if not into:
        return 0
    if is_copy(output):
        return copy(output, base, delta, start, into)
    left = view_as(base, output.base.dtype)
    right = view_as(delta, output.delta.dtype) if delta is not None and output.delta is not None else None
    target = view_as(into, output.dtype)
    changed = _convert(output, left, right, target)
    if output.patches:
        columns = prod(output.shape[1:])
        rows = target.view(-1, columns)
        for patch in output.patches:
            patch.apply(rows, start // columns)
    return changed


def count_non_finite(data: memoryview, dtype: str) -> int:
    """Return how many elements are infinite or not a number; cheap where none is."""
    if dtype not in FLOAT_DTYPES or not data.nbytes:
        return 0
    tensor = view_as(data, dtype)
    low, high = torch.aminmax(tensor)  # either is NaN where any element is
    if bool(torch.isfinite(low)) and bool(torch.isfinite(high)):
        return 0
    return tensor.numel() - int(torch.isfinite(tensor).sum())


def _convert(output: OutputTensor, left: torch.Tensor, right: torch.Tensor | None, target: torch.Tensor) -> int:
    """Write the base, or what the two make together, in the output's type; return how many values that changed."""
    if right is not None and _is_plain(output, left, right):
        torch.add(left, right, out=target)
        return 0
    if _is_local(output, left, right):
        return sum(
            _put(output, left[block] if right is None else _total(output, left[block], right[block]), target[block])
            for block in _blocks(len(target))
        )
    total = left if right is None else _total(output, left, right)
    if output.observer is not None:
        output.observer.observe(left, right, total)
    return _put(output, total, target)


def _is_local(output: OutputTensor, left: torch.Tensor, right: torch.Tensor | None) -> bool:
    """Say whether a result is of the elements in its own place alone."""
    return output.observer is None and (right is None or len(left) == len(right))


def _blocks(length: int) -> Iterator[slice]:
    """Cut a stretch so that what is made on the way stays in the processor's cache, in memory that is used again."""
    return (slice(start, start + _BLOCK) for start in range(0, length, _BLOCK))


def _put(output: OutputTensor, total: torch.Tensor, target: torch.Tensor) -> int:
    """Write a result in the output's type; return how many values that changed, if `counted` asks for it."""
    target.copy_(total)
    if not output.counted:
        return 0
    # conversions to and from these types are fast
    wide = torch.float64 if total.dtype == torch.float64 else torch.float32
    found, meant = target.to(wide), total.to(wide)
    return 0 if torch.equal(found, meant) else int((found != meant).count_nonzero())


def _is_plain(output: OutputTensor, left: torch.Tensor, right: torch.Tensor) -> bool:
    """Say whether one addition makes the chunk: all of one type, nothing to pad, nobody to see the parts."""
    one_type = left.dtype == right.dtype == TORCH[output.dtype] and output.sum_dtype in (None, output.dtype)
    return one_type and len(left) == len(right) and not output.subtract and output.observer is None


def _total(output: OutputTensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return base + delta, or delta - base, in `sum_dtype`; overwrites one of the two where it may."""
    dtype = TORCH[output.sum_dtype] if output.sum_dtype else right.dtype
    if output.observer is not None:
        left = left.clone()
    right = right.to(dtype, copy=output.observer is not None)
    known = left.numel()
    if output.subtract:
        right[:known].sub_(left.to(dtype))
        return right
    if known < right.numel():
        right[:known].add_(left.to(dtype))
        if output.padding is None:
            right[known:].add_(0.0)  # -0 becomes 0, as in any sum with zero
        else:
            _pad(right[known:], output.padding, prod(output.shape[1:]))
        return right
    if left.dtype == dtype:
        return left.add_(right)
    return left.to(dtype).add_(right)


def _pad(rows: torch.Tensor, padding: Padding, columns: int) -> None:
    rows.view(-1, columns).add_(padding.row().to(rows.dtype))
