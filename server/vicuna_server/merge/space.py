"""Whether a volume has room for what a merge will write."""

import shutil
from pathlib import Path

from vicuna_server.merge.checkpoint import Checkpoint
from vicuna_server.merge.problems import Problems
from vicuna_server.merge.tensors import DTYPE_BYTES, FLOAT_DTYPES, OUTPUT_DTYPES

__all__ = ["check_space", "estimate_output"]


def check_space(root: Path, needed: int, problems: Problems) -> None:
    """Note `OutOfSpace` where `root`'s volume has fewer than `needed` bytes free for this user."""
    free = shutil.disk_usage(root).free
    if needed > free:
        problems.add(
            "OutOfSpace",
            f"{root} has {_amount(free)} free and needs {_amount(needed)}; give it a larger volume or make room",
        )


def estimate_output(base: Checkpoint, dtype: str) -> int:
    """Return about how many bytes the result takes, from the base alone: where no plan could be made.

    Args:
        base: the base.
        dtype: float16, bfloat16 or float32.
    """
    output = OUTPUT_DTYPES[dtype]
    return sum(
        tensor.elements * DTYPE_BYTES[output if tensor.dtype in FLOAT_DTYPES else tensor.dtype]
        for tensor in base.tensors.values()
    )


def _amount(count: int) -> str:
    """Return a size for people and, beside it, the very number."""
    rounded = f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"
    return f"{rounded} ({count} bytes)"
