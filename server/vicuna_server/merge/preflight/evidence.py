"""How large the rows are that a delta adds to the vocabulary, beside the base's."""

import numpy as np
from numpy.typing import NDArray

from vicuna_server.merge.preflight.values import decode
from vicuna_server.weights.tensors import FLOAT_DTYPES, TensorSource, read_elements

__all__ = ["added_size"]

_SAMPLED_ROWS = 64


def added_size(base: TensorSource, delta: TensorSource) -> float | None:
    """Return the largest norm among the rows only the delta has, relative to a typical (median) row of the base.

    Args:
        base: 2-D, (rows, columns); 64 rows from its middle are read.
        delta: 2-D, with more rows and as many columns.

    Returns:
        None where the base's rows are zero, or no floats, or the delta adds none.
    """
    if not {base.dtype, delta.dtype} <= FLOAT_DTYPES or not base.elements or delta.shape[0] <= base.shape[0]:
        return None
    first = max(0, (base.shape[0] - _SAMPLED_ROWS) // 2)
    typical = float(np.median(_norms(base, first, min(base.shape[0], first + _SAMPLED_ROWS))))
    largest = float(_norms(delta, base.shape[0], delta.shape[0]).max())
    return largest / typical if typical > 0 else None


def _norms(tensor: TensorSource, first: int, last: int) -> NDArray[np.float64]:
    """Return the norms of rows [first, last), read in whole units."""
    columns = tensor.shape[1]
    start = first * columns // tensor.unit * tensor.unit
    stop = min(tensor.elements, -(-last * columns // tensor.unit) * tensor.unit)
    values = decode(read_elements(tensor, start, stop), tensor.dtype)[first * columns - start :]
    rows = values[: (last - first) * columns].astype(np.float64).reshape(-1, columns)
    return np.asarray(np.sqrt((rows * rows).sum(axis=1)))
