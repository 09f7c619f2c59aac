"""Which tensors of base and delta belong together, and what becomes of each pair."""

from collections.abc import Iterator

from vicuna_server.merge.arithmetic.layout import OutputTensor
from vicuna_server.merge.arithmetic.padding import MeanRow
from vicuna_server.merge.preflight.tying import HEAD, same_tensor
from vicuna_server.merge.preflight.vocabulary import VOCABULARY_SUFFIXES
from vicuna_server.problems import Problems
from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import FLOAT_DTYPES, TensorSource, holding

__all__ = ["EMBEDDING", "HEAD", "pair_tensors", "sum_dtype"]

EMBEDDING = "model.embed_tokens.weight"


def pair_tensors(
    base: Checkpoint,
    delta: Checkpoint | None,
    kind: str,
    dtype: str,
    problems: Problems,
    *,
    called: str = "delta",
) -> Iterator[OutputTensor]:
    """Yield each tensor of the result, in the order they lie in the base.

    Args:
        base: the base.
        delta: the delta, if any.
        kind: the resolved kind; it decides about rows that only the delta has.
        dtype: the output's type under safetensors' name; a tensor that is not of floats keeps its own.
        called: what messages call the delta.
        problems: gets `TensorMissing`, `ShapeMismatch`, `VocabularyMismatch`, `UnsupportedDtype`.
    """
    skipped = _tied_head(base, delta)
    deltas = {name: tensor for name, tensor in delta.tensors.items() if name not in skipped} if delta else {}
    for name, tensor in base.tensors.items():
        if name in skipped:
            continue
        other = deltas.pop(name, None)
        if delta and other is None:
            problems.add(
                "TensorMissing", f"{delta.folder} lacks {name}, which the base has; give the matching {called}"
            )
        elif _fits(tensor, other, kind, called, problems):
            yield _output(name, tensor, other, kind, dtype)
    for name in deltas:
        problems.add("TensorMissing", f"{base.folder} lacks {name}, which the {called} has; give the matching base")


def _output(name: str, tensor: TensorSource, other: TensorSource | None, kind: str, dtype: str) -> OutputTensor:
    """Say what becomes of a tensor of the base and its like in the delta, if there is one."""
    shape = other.shape if other else tensor.shape
    output_dtype = dtype if tensor.dtype in FLOAT_DTYPES else tensor.dtype
    wide = kind == "alpaca" and other is not None
    padding = MeanRow(tensor) if wide and shape != tensor.shape else None
    summed = sum_dtype(kind, tensor.dtype, other.dtype, output_dtype) if other else None
    counted = tensor.dtype in FLOAT_DTYPES and holding(tensor.dtype, output_dtype) != output_dtype
    return OutputTensor(name, shape, output_dtype, tensor, other, padding, sum_dtype=summed, counted=counted)


def sum_dtype(kind: str, base: str, delta: str, output: str) -> str | None:
    """Return the type that a base and a delta are added in; None: the delta's own.

    One that holds both and the result, so that the sum is rounded once. Two float16 tensors are added in float16, as by
    FastChat, and alpaca's in float32 whatever the files hold, as by Stanford's script.

    Args:
        kind: the resolved kind of delta.
        base: the base's type under safetensors' name.
        delta: the delta's.
        output: the result's.
    """
    if kind == "alpaca":
        return "F32"
    summed = "F16" if base == delta == "F16" else holding(base, delta, output)
    return None if summed == delta else summed


def _fits(tensor: TensorSource, other: TensorSource | None, kind: str, called: str, problems: Problems) -> bool:
    if other is None:
        return True
    if not _are_floats(tensor, other, called, problems):
        return False
    if tensor.shape == other.shape:
        return True
    matrices = len(tensor.shape) == len(other.shape) == 2
    vocabulary = matrices and tensor.name.endswith(VOCABULARY_SUFFIXES) and tensor.shape[1] == other.shape[1]
    if not vocabulary:
        problems.add(
            "ShapeMismatch",
            f"{tensor.name} is {list(tensor.shape)} in the base and {list(other.shape)} in the {called}; "
            f"give the base that this {called} was made for",
        )
        return False
    if kind in ("additive-v0", "alpaca") and other.shape[0] > tensor.shape[0]:
        return True
    grown = other.shape[0] > tensor.shape[0]
    problems.add(
        "VocabularyMismatch",
        f"{tensor.name} has {tensor.shape[0]} rows in the base and {other.shape[0]} in the {called}; give the base "
        f"that this {called} was made for{', or state kind additive-v0 or alpaca if it adds rows' if grown else ''}",
    )
    return False


def _are_floats(tensor: TensorSource, other: TensorSource, called: str, problems: Problems) -> bool:
    strange = next((one for one in (tensor, other) if one.dtype not in FLOAT_DTYPES), None)
    if strange is not None:
        problems.add(
            "UnsupportedDtype",
            f"{strange.name} in {strange.files[0]} is {strange.dtype}; base and {called} must be unquantised floats",
        )
    return strange is None


def _tied_head(base: Checkpoint, delta: Checkpoint | None) -> set[str]:
    """Return {lm_head} where it is the embedding under a second name: such a tensor is merged once."""
    checkpoints = [one for one in (base, delta) if one is not None]
    tied = checkpoints[-1].config.get("tie_word_embeddings") is True
    return {HEAD} if tied and all(_head_is_embedding(one) for one in checkpoints) else set()


def _head_is_embedding(checkpoint: Checkpoint) -> bool:
    head, embedding = checkpoint.tensors.get(HEAD), checkpoint.tensors.get(EMBEDDING)
    if head is None:
        return True
    return embedding is not None and same_tensor(head, embedding)
