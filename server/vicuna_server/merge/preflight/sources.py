"""Everything that can be known of the sources before a byte is written: configs, headers and a few of the numbers."""

from vicuna_server.merge.preflight.configs import check_pair, check_unquantised
from vicuna_server.merge.preflight.contents import check_alone, check_contents
from vicuna_server.merge.preflight.kinds import extra_rows
from vicuna_server.merge.preflight.lossy import base_is_lossy
from vicuna_server.problems import Problems
from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import DTYPE_BYTES, FLOAT_DTYPES, OUTPUT_DTYPES

__all__ = ["check_sources", "estimate_output"]


def check_sources(base: Checkpoint, delta: Checkpoint | None, kind: str, problems: Problems) -> None:
    """Note all that keeps base and delta from being merged, tensors' names and shapes excepted (`whole`, `pairing`).

    Reads at most 16 MiB of vectors and 16 MiB of sampled rows of each.

    Args:
        base: the base.
        delta: the delta, if any.
        kind: what was asked for, `auto` included.
        problems: gets `QuantizedSource`, `ConfigMismatch`, `KindMismatch`, and what `contents` finds.
    """
    for checkpoint in (base, *((delta,) if delta else ())):
        for reason, message in checkpoint.warnings:
            problems.warn(reason, message)
        check_unquantised(checkpoint, problems)
    if delta is None:
        check_alone(base, problems)
        return
    check_pair(base, delta, problems)
    check_contents(base, delta, problems)
    if any(tensor.dtype == "F16" for tensor in delta.tensors.values()) and base_is_lossy(base):
        problems.warn(
            "BaseLossy",
            f"{base.folder} went through bfloat16 when it was converted and lost three bits of every value; give "
            "Meta's original files or another conversion for the exact result",
        )
    rows = extra_rows(base, delta)
    if kind == "additive-v1.1" and rows > 0:
        problems.add(
            "KindMismatch",
            f"{delta.folder} adds {rows} rows to the vocabulary, which no delta of kind additive-v1.1 does; "
            "leave the kind out, or state additive-v0 or alpaca",
        )


def estimate_output(base: Checkpoint, dtype: str) -> int:
    """Return about how many bytes the result takes, from the base alone: for a list of problems, where no plan is.

    Args:
        base: the base.
        dtype: float16, bfloat16 or float32.
    """
    output = OUTPUT_DTYPES[dtype]
    return sum(
        tensor.elements * DTYPE_BYTES[output if tensor.dtype in FLOAT_DTYPES else tensor.dtype]
        for tensor in base.tensors.values()
    )
