"""What a delta will consist of, decided and judged before the first byte."""

from collections import Counter
from dataclasses import replace

from vicuna_server.make_delta.round_trip import RoundTrip
from vicuna_server.merge.arithmetic.layout import OutputTensor, lay_out
from vicuna_server.merge.planning.config_files import small_files
from vicuna_server.merge.planning.output_dtype import own_dtype
from vicuna_server.merge.planning.pairing import pair_tensors
from vicuna_server.merge.planning.plan import Plan
from vicuna_server.merge.preflight.configs import check_pair, check_unquantised
from vicuna_server.merge.preflight.contents import check_finite, looks_like_delta, same_weights
from vicuna_server.merge.preflight.kinds import extra_rows
from vicuna_server.merge.preflight.values import read_vectors, sample_pairs
from vicuna_server.merge.preflight.whole import check_whole
from vicuna_server.problems import Problems
from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import OUTPUT_DTYPES, holding
from vicuna_server.weights.tokenizers.examination import examine
from vicuna_server.weights.tokenizers.tokenizer import Tokenizer, read_tokenizer

__all__ = ["plan_delta"]

_CALLED = "tuned model"


def plan_delta(base: Checkpoint, tuned: Checkpoint, dtype: str, lost: Counter[str], problems: Problems) -> Plan | None:
    """Lay out tuned - base; None when `problems` got something.

    Both are subtracted in a type that holds both and the delta, so that the difference is rounded once: for float16 as
    by FastChat (fastchat/model/make_delta.py). Rows that the base lacks count as zero, as in Vicuna v0's.

    Args:
        base: the base.
        tuned: the tuned model; its config and tokenizer become the delta's.
        dtype: float16, bfloat16 or float32.
        lost: will count, by tensor, the elements that a merge does not bring back.
        problems: gets everything that is wrong.
    """
    for checkpoint in (base, tuned):
        for reason, message in checkpoint.warnings:
            problems.warn(reason, message)
        check_unquantised(checkpoint, problems)
    base, tuned = check_whole(base, problems), check_whole(tuned, problems)
    check_pair(base, tuned, problems, called=_CALLED)
    _check_numbers(base, tuned, problems)
    tokenizer, folder = Tokenizer({}), tuned.tokenizer_folder or tuned.folder
    with problems.collecting():
        tokenizer = read_tokenizer(folder)
        examine(tokenizer, folder, "", tuned.config, problems)
    with problems.collecting():
        tuned.read_generation_config()
    for reason, message in tokenizer.warnings:
        problems.warn(reason, message)
    output_dtype = OUTPUT_DTYPES[dtype]
    outputs = [
        _subtraction(output, lost)
        for output in pair_tensors(base, tuned, "additive-v0", output_dtype, problems, called=_CALLED)
    ]
    small = small_files(tuned, tokenizer, outputs, dtype, problems) if tokenizer.files else {}
    if problems or not outputs:
        return None
    kind = "additive-v0" if extra_rows(base, tuned) else "additive-v1.1"
    return Plan(kind, "", lay_out(outputs), small, dtype, own_dtype(base))


def _subtraction(output: OutputTensor, lost: Counter[str]) -> OutputTensor:
    """Turn the sum of a pair into its difference."""
    held = holding(output.dtype, *(source.dtype for source in output.sources))
    observer = RoundTrip(output.name, output.dtype, lost)
    return replace(output, subtract=True, sum_dtype=held, observer=observer, counted=False)


def _check_numbers(base: Checkpoint, tuned: Checkpoint, problems: Problems) -> None:
    """Note deltas in the place of models, the same model twice, and values that are infinite or not a number."""
    ours, theirs = read_vectors(base), read_vectors(tuned)
    for checkpoint, vectors in ((base, ours), (tuned, theirs)):
        check_finite(checkpoint, vectors, problems)
    if same_weights(ours, theirs, list(sample_pairs(base, tuned))):
        problems.add(
            "SameCheckpoint",
            f"{base.folder} and {tuned.folder} hold the same weights; give the model before and after training",
        )
    if looks_like_delta(base, ours):
        problems.add(
            "NotABase", f"{base.folder} looks like a delta (its final norm is near 0); give the original model"
        )
    if looks_like_delta(tuned, theirs):
        problems.add("NotAModel", f"{tuned.folder} looks like a delta (its final norm is near 0); give the whole model")
