"""Everything that can be known of the sources before a byte is written: configs, headers and a few of the numbers."""

from vicuna_server.merge.checkpoint import Checkpoint
from vicuna_server.merge.configs import check_pair, check_unquantised, check_whole
from vicuna_server.merge.contents import check_alone, check_contents
from vicuna_server.merge.kinds import extra_rows
from vicuna_server.merge.problems import Problems

__all__ = ["check_sources"]


def check_sources(base: Checkpoint, delta: Checkpoint | None, kind: str, problems: Problems) -> None:
    """Note all that keeps base and delta from being merged, tensors' shapes excepted (`steps.pair_tensors`).

    Reads at most 16 MiB of vectors and 16 MiB of sampled rows of each.

    Args:
        base: the base.
        delta: the delta, if any.
        kind: what was asked for, `auto` included.
        problems: gets `QuantizedSource`, `ConfigMismatch`, `KindMismatch`, `TensorMissing` for whole layers, and what
            `contents` finds.
    """
    for checkpoint in (base, *((delta,) if delta else ())):
        check_unquantised(checkpoint, problems)
        check_whole(checkpoint, problems)
    if delta is None:
        check_alone(base, problems)
        return
    check_pair(base, delta, problems)
    check_contents(base, delta, problems)
    rows = extra_rows(base, delta)
    if kind == "additive-v1.1" and rows > 0:
        problems.add(
            "KindMismatch",
            f"{delta.folder} adds {rows} rows to the vocabulary, which no delta of kind additive-v1.1 does; "
            "leave the kind out, or state additive-v0 or alpaca",
        )
