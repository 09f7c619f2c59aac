"""Which arithmetic a delta asks for, judged from shapes and from one small tensor."""

import struct

from vicuna_server.merge.checkpoint import Checkpoint
from vicuna_server.merge.problems import Problems
from vicuna_server.merge.tensors import TensorSource, read_elements

__all__ = ["KINDS", "VOCABULARY_SUFFIXES", "extra_rows", "resolve_kind"]

KINDS = ("auto", "additive-v1.1", "additive-v0", "alpaca")
VOCABULARY_SUFFIXES = ("embed_tokens.weight", "lm_head.weight", "embed_in.weight", "embed_out.weight", "wte.weight")
_FINAL_NORMS = ("model.norm.weight", "gpt_neox.final_layer_norm.weight", "transformer.ln_f.weight")
_ZERO_CENTRED = ("gemma", "qwen3_next")  # their norms multiply by 1 + weight: near zero says nothing
_MOST_ADDED_ROWS = 256
_NEAR_ZERO = 0.1


def resolve_kind(kind: str, base: Checkpoint, delta: Checkpoint | None, delta_id: str, problems: Problems) -> str:
    """Return `none`, `additive-v1.1` or `additive-v0`, and note what speaks against the sources.

    Args:
        kind: what was asked for, `auto` included.
        base: the base.
        delta: the delta, if any.
        delta_id: the delta's hub id (ORG/NAME), empty for a folder: a path decides nothing.
        problems: gets `NotABase`, `NotADelta`, `UnsupportedDelta`, `AmbiguousDelta`.
    """
    base_norm = _final_norm(base)
    if base_norm is not None and base_norm < _NEAR_ZERO:
        problems.add(
            "NotABase",
            f"{base.folder} looks like a delta (its final norm averages {base_norm:.3f}, a model's is near 1); "
            "give the original model as base",
        )
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
    norm = _final_norm(delta)
    if norm is not None and norm > (base_norm or 1.0) / 2:
        problems.add(
            "NotADelta",
            f"{delta.folder} looks like a whole model (its final norm averages {norm:.3f}, a delta's is near 0); "
            "give a delta, or serve the model as base without one",
        )
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


def _final_norm(checkpoint: Checkpoint) -> float | None:
    """Return the mean size of the final norm's weights, None where that says nothing."""
    if str(checkpoint.config.get("model_type", "")).startswith(_ZERO_CENTRED):
        return None
    for name in _FINAL_NORMS:
        tensor = checkpoint.tensors.get(name)
        if tensor is not None and tensor.elements:
            values = _floats(tensor)
            return sum(abs(value) for value in values) / len(values) if values else None
    return None


def _floats(tensor: TensorSource) -> tuple[float, ...]:
    data = read_elements(tensor, 0, tensor.elements)
    if tensor.dtype == "BF16":  # the upper half of a float32
        words = struct.unpack(f"<{len(data) // 2}H", data)
        data = struct.pack(f"<{len(words)}I", *(word << 16 for word in words))
    code = {"F64": "d", "F32": "f", "BF16": "f", "F16": "e"}.get(tensor.dtype)
    return struct.unpack(f"<{tensor.elements}{code}", data) if code else ()
