"""Matrix products with fixed weights, in the layout that the CPU's kernels want."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear, Parameter
from torch.nn.functional import linear, silu

__all__ = ["Product"]

PACKED_FOR = 8
"""The number of rows for which the layout is chosen; measured to be good from 1 to 512."""


class Product:
    """Several linear layers over the same input as one product; its output has theirs side by side.

    The layers give up their weights. On the CPU these are packed once, which saves the kernel from doing so at each
    call (20 to 40 % of the time at 1 to 8 rows), and what follows the product runs within its kernel.

    Args:
        layers: At least one, all with a bias or all without.
    """

    def __init__(self, *layers: Linear) -> None:
        weights = [layer.weight.detach() for layer in layers]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self._bias = torch.cat(biases) if biases else None
        packed = _packed(weight)
        self._weight = weight if packed is None else packed
        self._kernel: Any = None if packed is None else torch.ops.mkldnn._linear_pointwise
        for layer in layers:
            layer.weight = Parameter(weight.new_empty(0), requires_grad=False)

    def __call__(self, states: Tensor) -> Tensor:
        """Return the product, shape (tokens, outputs), for states of shape (tokens, inputs)."""
        return self._run(states, "none")

    def silu(self, states: Tensor) -> Tensor:
        """Return x·sigmoid(x) of the product."""
        return silu(self._run(states, "none")) if self._kernel is None else self._run(states, "swish")

    def times(self, states: Tensor, factor: Tensor) -> Tensor:
        """Return the product times a tensor of its shape."""
        return self._run(states, "none").mul_(factor) if self._kernel is None else self._with(states, factor, "mul")

    def plus(self, states: Tensor, summand: Tensor) -> Tensor:
        """Return the product plus a tensor of its shape."""
        return self._run(states, "none").add_(summand) if self._kernel is None else self._with(states, summand, "add")

    def _run(self, states: Tensor, then: str) -> Tensor:
        if self._kernel is None:
            return linear(states, self._weight, self._bias)
        result: Tensor = self._kernel(states, self._weight, self._bias, then, [], "")
        return result

    def _with(self, states: Tensor, other: Tensor, operation: str) -> Tensor:
        result: Tensor = self._kernel.binary(states, other, self._weight, self._bias, operation)
        return result


def _packed(weight: Tensor) -> Tensor | None:
    """Return the weight in oneDNN's own layout; None where this build, device or format has none."""
    if weight.device.type != "cpu" or not _packs(weight.dtype):
        return None
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR)
    return packed


@cache
def _packs(dtype: torch.dtype) -> bool:
    """Whether the packed kernels work: operators of torch's compiler may change, so each is called once."""
    if dtype not in (torch.bfloat16, torch.float32) or not torch._C._has_mkldnn:
        return False
    kernel, weight = torch.ops.mkldnn, torch.zeros(64, 64, dtype=dtype)
    states = weight[:1].clone()
    try:
        packed = kernel._reorder_linear_weight(weight, PACKED_FOR)
        product = kernel._linear_pointwise(states, packed, None, "swish", [], "")
        kernel._linear_pointwise.binary(states, product, packed, None, "mul")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True
