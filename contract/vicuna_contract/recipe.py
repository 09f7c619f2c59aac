"""What a merge is asked for, in the words of the CRD and of the command line."""

from typing import Final, Literal, get_args

__all__ = ["DELTA_KINDS", "DTYPES", "MERGE_DTYPES", "RECIPE_VERSION", "DeltaKind", "Dtype", "MergeDtype"]

# The version of the merge arithmetic: raised when the same inputs would give other bytes.
RECIPE_VERSION: Final = 1

DeltaKind = Literal["auto", "additive-v1.1", "additive-v0", "alpaca"]
DELTA_KINDS: Final[tuple[DeltaKind, ...]] = get_args(DeltaKind)

Dtype = Literal["float16", "bfloat16", "float32"]
"""Number format of an artifact's weights."""
DTYPES: Final[tuple[Dtype, ...]] = get_args(Dtype)

MergeDtype = Literal["auto", "float16", "bfloat16", "float32"]
"""What a merge can be asked for; auto is the base's own."""
MERGE_DTYPES: Final[tuple[MergeDtype, ...]] = get_args(MergeDtype)
