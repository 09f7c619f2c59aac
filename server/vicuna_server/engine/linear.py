"""Matrix products with fixed weights, in the layout that the CPU's kernels want."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Linear, Parameter
from torch.nn.functional import linear

__all__ = ["fused"]

PACKED_FOR = 8
"""The number of rows for which the layout is chosen; measured to be good from 1 to 512."""


def fused(*layers: Linear) -> Callable[[Tensor], Tensor]:
    """Return one function for several linear layers over the same input; its output has theirs side by side.

    The layers give up their weights. On the CPU these are packed once, which saves the kernel from doing so at each
    call: 20 to 40 % of a step at 1 to 8 rows.
    """
    weight = layers[0].weight.detach() if len(layers) == 1 else torch.cat([layer.weight.detach() for layer in layers])
    biases = [layer.bias for layer in layers]
    bias = None if biases[0] is None else torch.cat([bias.detach() for bias in biases])
    packed = _packed(weight)
    for layer in layers:
        layer.weight = Parameter(weight.new_empty(0), requires_grad=False)
    if packed is None:
        return lambda states: linear(states, weight, bias)
    run = torch.ops.mkldnn._linear_pointwise
    return lambda states: run(states, packed, bias, "none", [], "")


def _packed(weight: Tensor) -> Tensor | None:
    """Return the weight in oneDNN's own layout; None where this build, device or format has none."""
    fits = weight.device.type == "cpu" and weight.dtype in (torch.bfloat16, torch.float32)
    if not fits or not torch._C._has_mkldnn:
        return None
    try:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR)
        # An operator of torch's compiler, so it may change: one product shows whether it still is what we think.
        torch.ops.mkldnn._linear_pointwise(weight.new_zeros(1, weight.shape[1]), packed, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return None
    return packed
