"""Whether a base lost bits on its way into Hugging Face's layout.

transformers' conversion script once took LLaMA's float16 weights through bfloat16, which has three bits of fraction
less: all its values end in three zero bits. Deltas made from the original still merge, with slightly other sums.
"""

import numpy as np

from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import TensorSource, read_each

__all__ = ["base_is_lossy"]

_TENSORS = 8
_BYTES = 128 * 1024  # of each
_LEAST_VALUES = 1000
_EXPONENT = 0x7C00
_LAST_BITS = 0x0007  # of float16's ten bits of fraction, those that bfloat16 lacks


def base_is_lossy(checkpoint: Checkpoint) -> bool:
    """Whether sampled float16 matrices all end in three zero bits, as a way through bfloat16 leaves them.

    By chance, one value in eight does; a thousand of them never do.
    """
    matrices = [one for one in checkpoint.tensors.values() if one.dtype == "F16" and len(one.shape) == 2]
    values = 0
    for data in read_each([_sample(tensor) for tensor in matrices[:: max(1, len(matrices) // _TENSORS)][:_TENSORS]]):
        words = np.frombuffer(data, np.dtype("<u2"))
        words = words[(words & _EXPONENT) != 0]  # zero and subnormals have their last bits elsewhere
        if np.any(words & _LAST_BITS):
            return False
        values += len(words)
    return values >= _LEAST_VALUES


def _sample(tensor: TensorSource) -> tuple[TensorSource, int, int]:
    """Return which elements to read: the first ones, in whole units."""
    units = max(1, _BYTES // 2 // tensor.unit)
    return tensor, 0, min(units * tensor.unit, tensor.elements)
