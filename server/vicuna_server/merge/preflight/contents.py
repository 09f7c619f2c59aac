"""What a few of the numbers themselves say about base and delta, before a byte is written.

A model's final norm averages near 1 or above, a delta's near 0. Whether the base already contains the delta is a
question of regression: over sampled weights, base = beta * delta + rest. A raw base knows nothing of the delta
(beta near 0); a merged one is raw + delta (beta near 1). Fine-tuning may stretch or shrink weights a little, which
moves beta, but by another amount in each matrix. So the base counts as merged only where all three hold:

- 0.5 < beta < 1.5 over all sampled matrices;
- beta is more than 8 standard errors from 0, rows being the independent units (a cluster-robust error: values
  within a row go together);
- in at least three of four matrices beta lies in that range by itself.
"""

from collections.abc import Sequence

import numpy as np

from vicuna_server.merge.preflight.values import Floats, SampledPair, read_vectors, sample_pairs
from vicuna_server.problems import Problems
from vicuna_server.weights.checkpoint import Checkpoint

__all__ = ["check_alone", "check_contents", "check_finite", "looks_like_delta", "merged_beta", "same_weights"]

_FINAL_NORMS = ("model.norm.weight", "gpt_neox.final_layer_norm.weight", "transformer.ln_f.weight")
# their norms multiply by 1 + weight, so a weight near zero is normal (a test compares with transformers)
_ZERO_CENTRED = (
    *(
        "gemma",
        "recurrent_gemma",
        "vaultgemma",
        "t5gemma",
        "t5_gemma",
        "nemotron",
        "step3p",
        "minimax_m3",
        "muse_",
        "videoprism",
    ),
    *("qwen3_next", "qwen3_5", "qwen4_exp"),
)
_NEAR_ZERO = 0.1
_LEAST_BETA, _MOST_BETA = 0.5, 1.5
_LEAST_ERRORS = 8.0
_LEAST_SHARE = 0.75
_MOST_NAMED = 3


def check_alone(base: Checkpoint, problems: Problems) -> None:
    """Judge a base without a delta: `NotABase`, `NonFinite`."""
    vectors = read_vectors(base)
    check_finite(base, vectors, problems)
    if looks_like_delta(base, vectors):
        _note_not_a_base(base, vectors, "give the original model as base", problems)


def check_contents(base: Checkpoint, delta: Checkpoint, problems: Problems) -> None:
    """Judge base and delta: `NotABase`, `NotADelta`, `SameCheckpoint`, `AlreadyMerged`, `NonFinite`."""
    ours, theirs = read_vectors(base), read_vectors(delta)
    for checkpoint, vectors in ((base, ours), (delta, theirs)):
        check_finite(checkpoint, vectors, problems)
    pairs = list(sample_pairs(base, delta))
    if same_weights(ours, theirs, pairs):
        problems.add(
            "SameCheckpoint",
            f"{base.folder} and {delta.folder} hold the same weights; give the original model as base and the delta "
            "as delta, or serve the model as base without a delta",
        )
        return
    is_model = looks_like_model(delta, theirs, than=_final_norm(base, ours))
    if looks_like_delta(base, ours):
        swapped = "the delta looks like a model: are the two swapped?"
        _note_not_a_base(base, ours, swapped if is_model else "give the original model as base", problems)
    elif is_model:
        problems.add(
            "NotADelta",
            f"{delta.folder} looks like a whole model (its final norm averages {_final_norm(delta, theirs):.3f}, "
            "a delta's is near 0); give a delta, or serve the model as base without one",
        )
    elif (beta := merged_beta(pairs)) is not None:
        problems.add(
            "AlreadyMerged",
            f"{base.folder} already contains this delta, or one much like it ({beta:.2f} of it, by the weights "
            "sampled; an original model has near 0); give the original model, or serve this one without a delta",
        )


def check_finite(checkpoint: Checkpoint, vectors: dict[str, Floats], problems: Problems) -> None:
    """Note vectors that hold values that are infinite or not a number, and how many."""
    bad = {name: int((~np.isfinite(values)).sum()) for name, values in vectors.items()}
    named = [f"{name} ({count} of {vectors[name].size})" for name, count in bad.items() if count]
    if named:
        more = f" and {len(named) - _MOST_NAMED} more tensors" if len(named) > _MOST_NAMED else ""
        problems.add(
            "NonFinite",
            f"{checkpoint.folder} has values that are infinite or not a number in "
            f"{', '.join(named[:_MOST_NAMED])}{more}; fetch it again",
        )


def looks_like_delta(checkpoint: Checkpoint, vectors: dict[str, Floats]) -> bool:
    """Whether the final norm is near zero, as only a difference of two models has it."""
    norm = _final_norm(checkpoint, vectors)
    return norm is not None and norm < _NEAR_ZERO


def looks_like_model(checkpoint: Checkpoint, vectors: dict[str, Floats], than: float | None = None) -> bool:
    """Whether the final norm is a whole model's: more than half of another model's, of 1 where none is known."""
    norm = _final_norm(checkpoint, vectors)
    return norm is not None and norm > (than if than and than >= _NEAR_ZERO else 1.0) / 2


def merged_beta(pairs: Sequence[SampledPair]) -> float | None:
    """Return how much of the delta the base holds where it is certain that it holds it, else None."""
    per_row = [_moments(pair) for pair in pairs if _is_finite(pair)]
    sums = [rows.sum(axis=1) for rows in per_row]
    varied = [(covariance, variance) for covariance, variance in sums if variance > 0]
    if not varied:
        return None
    each = np.array([covariance / variance for covariance, variance in varied])
    together = np.concatenate(per_row, axis=1)
    total = together.sum(axis=1)
    beta = float(total[0] / total[1])
    error = float(np.sqrt(((together[0] - beta * together[1]) ** 2).sum()) / total[1])
    inside = float(((each > _LEAST_BETA) & (each < _MOST_BETA)).mean())
    return beta if _is_certain(beta, error, inside) else None


def _is_certain(beta: float, error: float, inside: float) -> bool:
    """Tell whether a share is the delta's own: far from none, many standard errors, and alike in most matrices."""
    return _LEAST_BETA < beta < _MOST_BETA and beta > _LEAST_ERRORS * error and inside >= _LEAST_SHARE


def _moments(pair: SampledPair) -> Floats:
    """Return covariance with the base and variance of each sampled row of a delta: [2, rows]."""
    centred = pair.delta - pair.delta.mean()
    moments: Floats = np.stack([(centred * pair.base).sum(axis=1), (centred * centred).sum(axis=1)])
    return moments


def _is_finite(pair: SampledPair) -> bool:
    return bool(np.isfinite(pair.base).all() and np.isfinite(pair.delta).all())


def same_weights(ours: dict[str, Floats], theirs: dict[str, Floats], pairs: Sequence[SampledPair]) -> bool:
    """Whether all vectors and all sampled rows are equal: neither alone says it, since both may be all zero or one."""
    return (
        bool(pairs)
        and ours.keys() == theirs.keys()
        and all(np.array_equal(values, theirs[name], equal_nan=True) for name, values in ours.items())
        and all(np.array_equal(pair.base, pair.delta, equal_nan=True) for pair in pairs)
    )


def _final_norm(checkpoint: Checkpoint, vectors: dict[str, Floats]) -> float | None:
    """Return the mean size of the final norm's weights, None where that says nothing."""
    if str(checkpoint.config.get("model_type", "")).startswith(_ZERO_CENTRED):
        return None
    found = next((vectors[name] for name in _FINAL_NORMS if name in vectors), None)
    mean = None if found is None else float(np.abs(found).mean(dtype=np.float64))
    return mean if mean is not None and np.isfinite(mean) else None


def _note_not_a_base(base: Checkpoint, vectors: dict[str, Floats], advice: str, problems: Problems) -> None:
    problems.add(
        "NotABase",
        f"{base.folder} looks like a delta (its final norm averages {_final_norm(base, vectors):.3f}, "
        f"a model's is near 1); {advice}",
    )
