"""Which arithmetic a delta asks for, judged from shapes and types."""

from vicuna_server.merge.checkpoint import Checkpoint
from vicuna_server.merge.problems import Problems

__all__ = ["KINDS", "VOCABULARY_SUFFIXES", "extra_rows", "resolve_kind"]

KINDS = ("auto", "additive-v1.1", "additive-v0", "alpaca")
VOCABULARY_SUFFIXES = ("embed_tokens.weight", "lm_head.weight", "embed_in.weight", "embed_out.weight", "wte.weight")
_MOST_ADDED_ROWS = 256


def resolve_kind(kind: str, base: Checkpoint, delta: Checkpoint | None, delta_id: str, problems: Problems) -> str:
    """Return `none`, `additive-v1.1` or `additive-v0`, and note what speaks against the sources.

    Args:
        kind: what was asked for, `auto` included.
        base: the base.
        delta: the delta, if any.
        delta_id: the delta's hub id (ORG/NAME), empty for a folder: a path decides nothing.
        problems: gets `UnsupportedDelta`, `AmbiguousDelta`.
    """
    if delta is None:
        return "none"
    if kind == "alpaca" or (kind == "auto" and "alpaca" in delta_id.lower()):
        problems.add(
            "UnsupportedDelta",
            "deltas of kind alpaca are not supported by this version; use an additive one, as Vicuna's are",
        )
        return "alpaca"
    if kind != "auto":
        return kind
    if not 0 < extra_rows(base, delta) <= _MOST_ADDED_ROWS:
        return "additive-v1.1"
    if any(name.endswith(VOCABULARY_SUFFIXES) and tensor.dtype == "F32" for name, tensor in delta.tensors.items()):
        # Vicuna's v0 is float16. Stanford's alpaca has as many rows, but does not start them at zero.
        problems.add(
            "AmbiguousDelta",
            f"{delta.folder} adds rows in float32, as deltas of kind alpaca do, which this version does not support; "
            "state kind additive-v0 if the base's new rows were zero when it was made",
        )
    return "additive-v0"


def extra_rows(base: Checkpoint, delta: Checkpoint) -> int:
    """Return how many rows the delta's embedding has more than the base's (0 where it has none of its own)."""
    for name, tensor in delta.tensors.items():
        other = base.tensors.get(name)
        if name.endswith(VOCABULARY_SUFFIXES) and other is not None and tensor.shape[1:] == other.shape[1:]:
            return tensor.shape[0] - other.shape[0]
    return 0
