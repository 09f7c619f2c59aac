"""What configs and tensors' names say about base and delta."""

from collections.abc import Mapping
from typing import Any

from vicuna_server.problems import Problems
from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import FLOAT_DTYPES

__all__ = ["check_pair", "check_unquantised", "quantised_tensor", "unquantised"]

_SIZES = (
    *("hidden_size", "num_hidden_layers", "intermediate_size"),
    *("num_attention_heads", "num_key_value_heads", "head_dim"),
)
_MATHS = (
    *("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "hidden_act", "rope_theta", "rope_scaling"),
    *("attention_bias", "mlp_bias", "tie_word_embeddings", "sliding_window", "rotary_pct", "use_parallel_residual"),
)
# defaults of transformers' LlamaConfig
_LLAMA_DEFAULTS = {
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
}
# tensors that only quantised checkpoints have: GPTQ, AWQ, bitsandbytes; compressed-tensors, float8, EETQ, AQLM
_QUANTISED_SUFFIXES = (
    *(".qweight", ".qzeros", ".g_idx", ".weight.absmax", ".weight.quant_map", ".SCB"),
    *(".weight_packed", ".weight_scale", ".weight_scale_inv", ".weight_zero_point", ".weight_scales", ".codebooks"),
)
_QUANTISED_FIELDS = ("quantization_config", "compression_config", "quantization")  # the last is MLX's
_MOST_LETTERS = 60


def check_unquantised(checkpoint: Checkpoint, problems: Problems) -> None:
    """Note weights that are quantised: deltas add to plain floats only.

    The tensors decide. What training in four bits leaves in the config of weights that were merged to floats
    afterwards is a warning; `unquantised` takes it out.
    """
    field, sign = _field(checkpoint), quantised_tensor(checkpoint)
    if sign is not None:
        why = f"its config.json has {field}, and it holds {sign}" if field else f"it holds {sign}"
        problems.add(
            "QuantizedSource",
            f"{checkpoint.folder} is {_quantised(checkpoint, field)}: {why}; give the original weights in float16, "
            "bfloat16 or float32, and quantise when serving",
        )
    elif field:
        problems.warn(
            "QuantizationIgnored",
            f"{checkpoint.folder}/config.json has {field}, but its matrices are plain floats; it is left out",
        )


def quantised_tensor(checkpoint: Checkpoint) -> str | None:
    """Return the name of a tensor that only quantised weights have; None where they are not quantised."""
    named = next((name for name in checkpoint.tensors if name.endswith(_QUANTISED_SUFFIXES)), None)
    return named or (_packed_matrix(checkpoint) if _field(checkpoint) else None)


def _field(checkpoint: Checkpoint) -> str | None:
    """Return the field in which the config says how the weights are quantised."""
    return next((name for name in _QUANTISED_FIELDS if checkpoint.config.get(name)), None)


def _packed_matrix(checkpoint: Checkpoint) -> str | None:
    """Return the name of a matrix that is not of floats."""
    tensors = checkpoint.tensors.items()
    return next((name for name, one in tensors if len(one.shape) > 1 and one.dtype not in FLOAT_DTYPES), None)


def _quantised(checkpoint: Checkpoint, field: str | None) -> str:
    """Say how weights are quantised, where the config tells."""
    scheme = checkpoint.config.get(field) if field else None
    method = scheme.get("quant_method") if isinstance(scheme, dict) else None
    return f"quantised ({_short(method)})" if method else "quantised"


def unquantised(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the fields that say how weights are quantised."""
    return {key: value for key, value in config.items() if key not in _QUANTISED_FIELDS}


def check_pair(base: Checkpoint, delta: Checkpoint, problems: Problems, *, called: str = "delta") -> None:
    """Note what in the configs keeps a delta from being this base's: architecture, size, and what changes the maths.

    `called` is what messages call the delta.
    """
    ours, theirs = _meaning(base.config), _meaning(delta.config)
    files = f"{base.folder}/config.json and {delta.folder}/config.json"
    advice = f"give the base that this {called} was made for"
    for label, keys in (("architecture", ("model_type",)), ("size", _SIZES), ("the computation", _MATHS)):
        differing = _differences(keys, ours, theirs)
        if differing:
            problems.add("ConfigMismatch", f"base and {called} differ in {label}: {differing} ({files}); {advice}")
    longest = _differences(("max_position_embeddings",), ours, theirs)
    if longest:
        problems.warn("ConfigDiffers", f"{longest} ({files}); the {called}'s value is used")


def _meaning(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with what it leaves out or writes in another way, so that equal models compare equal."""
    meant = {key: value for key, value in config.items() if value is not None}
    rope = meant.pop("rope_parameters", None)  # since transformers 5, in place of the two older fields
    if isinstance(rope, dict):
        meant.setdefault("rope_theta", rope.get("rope_theta"))
        meant.setdefault("rope_scaling", {key: value for key, value in rope.items() if key != "rope_theta"})
    return _of_llama(meant) if meant.get("model_type", "llama") == "llama" else meant


def _of_llama(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with what LLaMA's leaves out."""
    meant = {**_LLAMA_DEFAULTS, **{key: value for key, value in config.items() if value is not None}}
    meant.setdefault("num_key_value_heads", meant.get("num_attention_heads"))
    meant["rope_scaling"] = _scaling(meant.get("rope_scaling"))
    if "head_dim" not in meant and _divides(meant.get("num_attention_heads"), meant.get("hidden_size")):
        meant["head_dim"] = meant["hidden_size"] // meant["num_attention_heads"]
    return meant


def _scaling(value: Any) -> Any:
    """Return how positions are scaled, `default` (not at all) where nothing says so."""
    if not isinstance(value, dict):
        return value or "default"
    kind = value.get("rope_type", value.get("type", "default"))
    rest = {key: item for key, item in value.items() if key not in ("rope_type", "type") and item is not None}
    return kind if kind == "default" else {"rope_type": kind, **rest}


def _divides(heads: Any, width: Any) -> bool:
    return isinstance(heads, int) and isinstance(width, int) and heads > 0 and width % heads == 0


def _differences(keys: tuple[str, ...], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} is {_short(ours[key])} against {_short(theirs[key])}"
        for key in keys
        if ours.get(key) is not None and theirs.get(key) is not None and ours[key] != theirs[key]
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + "…"
