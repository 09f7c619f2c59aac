"""Which arithmetic a delta asks for, judged from shapes, types and the rows it adds."""

from collections.abc import Mapping

from vicuna_server.merge.preflight.evidence import added_size
from vicuna_server.merge.preflight.vocabulary import INPUT_SUFFIXES, VOCABULARY_SUFFIXES
from vicuna_server.problems import Problems
from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import TensorSource

__all__ = ["extra_rows", "resolve_kind"]

_MOST_ADDED_ROWS = 256
# Vicuna's v0 was published in float16, Stanford's alpaca in float32
_BY_DTYPE = {"F16": "additive-v0", "F32": "alpaca", "F64": "alpaca"}
# Norm of an added row that training did not change, relative to other rows: alpaca starts such a row at the mean and so
# stores zero; v0 stores the mean itself, which is small beside a row but clearly above this.
_ALPACA_BELOW, _V0_ABOVE = 5e-4, 3e-3


def resolve_kind(kind: str, base: Checkpoint, delta: Checkpoint | None, problems: Problems) -> str:
    """Return `none`, `additive-v1.1`, `additive-v0` or `alpaca`, and note where that cannot be told.

    Args:
        kind: what was asked for, `auto` included.
        base: the base.
        delta: the delta, if any.
        problems: gets `AmbiguousDelta`, `VocabularyMismatch`.
    """
    if delta is None:
        return "none"
    _check_parted(base, delta, problems)
    if kind != "auto":
        return kind
    rows = extra_rows(base, delta)
    if not 0 < rows <= _MOST_ADDED_ROWS:
        return "additive-v1.1"
    embedding, _ = _embeddings(base, delta)
    by_dtype, by_rows = _BY_DTYPE.get(embedding.dtype), _by_rows(base, delta)
    found = by_rows or by_dtype
    if found is None or (by_dtype and found != by_dtype):
        signs = {f"its type, {embedding.dtype}, fits": by_dtype, "the size of the rows fits": by_rows}
        _note_ambiguous(delta, rows, signs, problems)
    return found or "additive-v0"


def _note_ambiguous(delta: Checkpoint, rows: int, signs: Mapping[str, str | None], problems: Problems) -> None:
    """Say that the signs do not agree on one kind."""
    found = ", ".join(f"{sign} {kind or 'neither'}" for sign, kind in signs.items())
    problems.add(
        "AmbiguousDelta",
        f"{delta.folder} adds {rows} rows to the vocabulary, as kinds additive-v0 and alpaca both do; {found}; "
        "state kind (--kind): additive-v0 if the base's new rows were zero when the delta was made, alpaca if they "
        "were the mean of the others",
    )


def extra_rows(base: Checkpoint, delta: Checkpoint) -> int:
    """Return how many rows the delta's embedding has more than the base's (0 where it has none of its own)."""
    added = _added_rows(base, delta)
    return next((rows for name, rows in added.items() if name.endswith(INPUT_SUFFIXES)), max(added.values(), default=0))


def _added_rows(base: Checkpoint, delta: Checkpoint) -> dict[str, int]:
    """Return by how many rows each tensor of the delta that stands for the vocabulary is longer than the base's."""
    shared = {
        name: (tensor.shape, base.tensors[name].shape)
        for name, tensor in delta.tensors.items()
        if name.endswith(VOCABULARY_SUFFIXES) and name in base.tensors
    }
    return {
        name: ours[0] - theirs[0]
        for name, (ours, theirs) in shared.items()
        if len(ours) == len(theirs) == 2 and ours[1] == theirs[1]
    }


def _check_parted(base: Checkpoint, delta: Checkpoint, problems: Problems) -> None:
    """Note an embedding and a head that the delta makes longer by different numbers of rows: no kind does that."""
    added = _added_rows(base, delta)
    if len(set(added.values())) > 1:
        rows = " and ".join(
            f"{name} of {delta.tensors[name].shape[0]} rows where the base has {base.tensors[name].shape[0]}"
            for name in added
        )
        problems.add(
            "VocabularyMismatch",
            f"{delta.folder} has {rows}: it was made from models whose embedding and head do not fit each other; give "
            "a delta that changes both alike",
        )


def _by_rows(base: Checkpoint, delta: Checkpoint) -> str | None:
    """Return the kind that the size of the embedding's added rows fits, None between the two."""
    embedding, other = _embeddings(base, delta)
    size = added_size(other, embedding)
    if size is None:
        return None
    return "alpaca" if size < _ALPACA_BELOW else "additive-v0" if size > _V0_ABOVE else None


def _embeddings(base: Checkpoint, delta: Checkpoint) -> tuple[TensorSource, TensorSource]:
    """Return the delta's and the base's embedding; the head, whose added rows training always moves, only without."""
    shared = list(_added_rows(base, delta))
    name = next((name for name in shared if name.endswith(INPUT_SUFFIXES)), shared[0])
    return delta.tensors[name], base.tensors[name]
